package history

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestRecordedAndRead: what clients say concurrently is read as they said it.
func TestRecordedAndRead(t *testing.T) {
	s := &serial{rng: rand.New(rand.NewPCG(1, 10)), clients: 6, lists: 2, unknown: 10, op: mixed, perEra: 50}
	said := s.history(200)
	extra := []transport.Op{
		{Kind: transport.OpDeleteConcept, ID: "x"}, {Kind: transport.OpDeleteAssociation, ID: "x", Target: "y"}, {Kind: transport.OpExists, ID: ""},
		{Kind: transport.OpDeleteAssociationType, ID: "x", Target: "y", AssocType: 7}, {Kind: transport.OpVersion, ID: "x", Version: 1 << 60},
		{Kind: transport.OpAbsent, ID: "x"}, {Kind: transport.OpAttributeEquals, ID: "x", Key: "k", Value: ""}, {Kind: transport.OpAttributeAtLeast, ID: "x", Key: "k", Number: -1 << 63},
		{Kind: transport.OpLearnConcept, ID: "x", Content: "a\nb\u2028\"", Metadata: &transport.Metadata{Attributes: map[string]string{"k": ""}}},
	}
	said = append(said, Txn{Client: 7, Ops: extra, Return: Never, Reason: "lost"})
	var file bytes.Buffer
	r := NewRecorder(&file)
	calls := make([]uint64, len(said))
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := c; i < len(said); i += 8 {
				calls[i] = r.Invoke(said[i].Client, said[i].Ops)
				switch x := said[i]; {
				case x.Outcome == OK:
					r.OK(calls[i], x.Results)
				case x.Outcome == Fail:
					r.Fail(calls[i], x.FailedOp, x.Reason)
				case x.Reason != "":
					r.Unknown(calls[i], x.Reason)
				}
			}
		})
	}
	wg.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	whole := file.String()
	h, err := Read(strings.NewReader(whole))
	if err != nil || len(h) != len(said) {
		t.Fatalf("%d transactions of %d: %v", len(h), len(said), err)
	}
	for i, x := range said {
		got := h[calls[i]-1]
		if got.Invoke > got.Return || got.Outcome != Unknown && got.Return == Never {
			t.Fatalf("%+v", got)
		}
		got.Call, got.Invoke, got.Return, x.Call, x.Invoke, x.Return = 0, 0, 0, 0, 0, 0
		if len(x.Results) == 0 {
			got.Results, x.Results = nil, nil
		}
		if !reflect.DeepEqual(normal(got), normal(x)) {
			t.Fatalf("read %+v, said %+v", got, x)
		}
	}
	if cut, err := Read(strings.NewReader(whole[:len(whole)-5])); err != nil || len(cut) < len(said)-1 {
		t.Errorf("cut off in the last line: %d transactions, %v", len(cut), err)
	}
}

// normal makes empty lists and maps nil.
func normal(t Txn) Txn {
	t.Results = slices.Clone(t.Results)
	for i := range t.Results {
		if len(t.Results[i].Attributes) == 0 {
			t.Results[i].Attributes = nil
		}
		if len(t.Results[i].Neighbors) == 0 {
			t.Results[i].Neighbors = nil
		}
	}
	return t
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// TestAFullDiskIsTold: a history that could not be written is not taken for a whole one.
func TestAFullDiskIsTold(t *testing.T) {
	r := NewRecorder(full{})
	r.OK(r.Invoke(1, nil), nil)
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
}

// notHistories is text that is refused, with what is said of it.
var notHistories = map[string]string{
	"nonsense\n": "line 1",
	`{"at":1,"call":2,"type":"invoke"}` + "\n":                                                                                        "request 2 follows 0",
	`{"at":1,"call":1,"type":"ok"}` + "\n":                                                                                            "not under way",
	`{"at":1,"call":1,"type":"invoke","ops":[{"sing":{"id":"a"}}]}` + "\n":                                                            "sing",
	`{"at":1,"call":1,"type":"invoke","ops":[{"read":{"id":"a"},"exists":{"id":"a"}}]}` + "\n":                                        "2 names",
	`{"at":1,"call":1,"type":"invoke","ops":[{"read":{"name":"a"}}]}` + "\n":                                                          "name",
	`{"at":1,"call":1,"type":"invoke","ops":[{"set_attribute":{"id":"a","key":"k"}}]}` + "\n":                                         "without a value",
	`{"at":2,"call":1,"type":"invoke"}` + "\n" + `{"at":1,"call":1,"type":"ok"}` + "\n":                                               "earlier moment",
	`{"at":1,"call":1,"type":"invoke"}` + "\n" + `{"at":1,"call":1,"type":"maybe"}` + "\n":                                            "maybe",
	`{"at":1,"call":1,"type":"invoke"}` + "\n" + `{"at":1,"call":1,"type":"fail","op":1}` + "\n":                                      "1 of 0",
	`{"at":1,"call":1,"type":"invoke","ops":[{"read":{"id":"a"}}]}` + "\n" + `{"at":1,"call":1,"type":"ok","results":[{},{}]}` + "\n": "2 results of 1",
	`{"at":1,"call":1,"type":"invoke"}` + "\n" + `{"at":1,"call":1,"type":"info"}` + "\n" + `{"at":1,"call":1,"type":"ok"}` + "\n":    "not under way",
}

func TestReadRefuses(t *testing.T) {
	for text, want := range notHistories {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, errHistory) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read(io.MultiReader(strings.NewReader("{"), strings.NewReader(strings.Repeat(" ", maxLine)))); !errors.Is(err, errHistory) {
		t.Errorf("a line without end: %v", err)
	}
}

// TestOldFiles: what the first version wrote is read as it was meant.
func TestOldFiles(t *testing.T) {
	f, err := os.Open("testdata/first.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := Read(f)
	if err != nil || len(h) != 4 {
		t.Fatalf("%d transactions: %v", len(h), err)
	}
	if o := []Outcome{h[0].Outcome, h[1].Outcome, h[2].Outcome, h[3].Outcome}; !slices.Equal(o, []Outcome{OK, OK, Fail, Unknown}) || h[2].FailedOp != 1 || h[3].Return != Never {
		t.Errorf("%+v", h)
	}
	if op := h[0].Ops[1]; op.Kind != transport.OpDeleteAssociationType || op.ID != "a" || op.Target != "b" || op.AssocType != 7 || h[0].Ops[0].Metadata.Attributes["k"] != "v" {
		t.Errorf("%+v", h[0].Ops)
	}
	if r := h[1].Results; !slices.Equal(r[1].Neighbors, []string{"element-4", "element-9"}) || r[2].Value != -2 || h[1].Ops[2].Number != -2 || h[2].Ops[0].Number != 3 || h[2].Ops[1].Value != "w" {
		t.Errorf("%+v", h[1:3])
	}
}

// TestRegistersRecordedAndRead: operations on registers and notes are read as they were said, between transactions.
func TestRegistersRecordedAndRead(t *testing.T) {
	var file bytes.Buffer
	r := NewRecorder(&file)
	write, cas := RegisterOp{Key: "k", Kind: RegisterWrite, Value: "a", At: "master-1"}, RegisterOp{Key: "k", Kind: RegisterCAS, Value: "b", Expect: 3}
	answer := RegisterAnswer{Value: "a", Version: 4, Seq: 9, Epoch: event.Position{N: 1, Seq: 5}}
	r.Note("accounts", map[string]int{"n": 3})
	first := r.InvokeRegister(5, write)
	txn := r.InvokeTxn(6, &transport.Txn{RequestID: event.RequestID{15: 1}, Ops: []transport.Op{{Kind: transport.OpRead, ID: "x"}}})
	second, third := r.InvokeRegister(7, cas), r.InvokeRegister(8, cas)
	r.RegisterOK(first, answer)
	r.Fail(second, 1, "no")
	r.Committed(txn, &transport.TxnOk{Seq: 12, Results: make([]transport.OpResult, 1)})
	r.Unknown(third, "lost")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLog(&file)
	if err != nil || len(l.Txns) != 1 || len(l.Registers) != 3 {
		t.Fatalf("%+v: %v", l, err)
	}
	if x := l.Txns[0]; x.Call != txn || x.ID != "00000000000000000000000000000001" || x.Seq != 12 {
		t.Errorf("%+v", x)
	}
	a, b, c := l.Registers[0], l.Registers[1], l.Registers[2]
	if a.RegisterOp != write || a.RegisterAnswer != answer || a.Outcome != OK || a.Client != 5 || a.Return < a.Invoke {
		t.Errorf("%+v", a)
	}
	if b.RegisterOp != cas || b.Outcome != Fail || !b.Refused || b.Reason != "no" || c.Outcome != Unknown || c.Refused || c.Return != Never {
		t.Errorf("%+v\n%+v", b, c)
	}
	noted := map[string]int{}
	if ok, err := l.Note("accounts", &noted); !ok || err != nil || noted["n"] != 3 {
		t.Error(noted, ok, err)
	}
	if ok, _ := l.Note("others", &noted); ok {
		t.Error("nobody noted that")
	}
	if r := Complete(l, 5); !r.Has(Incomplete) {
		t.Error("five were sent, four are there")
	}
	if r := Complete(l, 4); !r.Valid() {
		t.Error(r)
	}
	if r := Complete(&Log{}, 0); !r.Has(Empty) {
		t.Error("a history of nothing")
	}
}

// FuzzRead: whatever a file holds is refused or judged, and what is read is written and read the same.
func FuzzRead(f *testing.F) {
	for text := range notHistories {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"at":1,"call":1,"type":"invoke","client":3,"ops":[{"learn_association":{"source":"a","target":"b"}},{"read_neighbors":{"id":"a"}},{"add":{"id":"r","key":"k","delta":2}}]}` + "\n" +
		`{"at":2,"call":1,"type":"ok","results":[{},{"neighbors":["b"]},{"value":2}]}` + "\n" + `{"at":3,"call":2,"type":"invoke","ops":[{"read":{"id":"a"}}]}` + "\n"))
	f.Add([]byte(`{"at":1,"type":"note","note":{"name":"n","value":[]}}` + "\n" + `{"at":1,"call":1,"type":"invoke","register":{"key":"k","op":"cas","value":"a","expect":1}}` + "\n" +
		`{"at":2,"call":2,"type":"invoke","register":{"key":"k","op":"read"}}` + "\n" + `{"at":3,"call":2,"type":"ok","answer":{"value":"a","version":2}}` + "\n" + `{"at":4,"call":1,"type":"fail","op":1}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ReadLog(bytes.NewReader(text))
		if err != nil {
			return
		}
		h := l.Txns
		_ = Registers(l.Registers).String()
		_ = Sessions(l.Registers).String()
		_ = Ledgers(h, Ledger{Accounts: 2, Key: "k"}).String()
		_ = Lists(h, nil).String()
		_ = Linear(h, LinearConfig{Timeout: 1e7}).String()
		_ = Bank(h, Accounts{IDs: []string{"a"}, Key: "k"}).String()
		var again bytes.Buffer
		r := NewRecorder(&again)
		for _, x := range h {
			call := r.Invoke(x.Client, x.Ops)
			switch x.Outcome {
			case OK:
				r.OK(call, x.Results)
			case Fail:
				r.Fail(call, x.FailedOp, x.Reason)
			default:
				r.Unknown(call, x.Reason)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		back, err := Read(&again)
		if err != nil || len(back) != len(h) {
			t.Fatalf("%d of %d: %v", len(back), len(h), err)
		}
		for i := range h {
			if len(back[i].Ops) != len(h[i].Ops) || !reflect.DeepEqual(normal(back[i]).Results, normal(h[i]).Results) {
				t.Fatalf("%+v is read as %+v", h[i], back[i])
			}
		}
	})
}
