package history

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

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
	`{"at":1,"call":2,"type":"invoke"}` + "\n":                                                                                        "transaction 2 follows 0",
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

// FuzzRead: whatever a file holds is refused or judged, and what is read is written and read the same.
func FuzzRead(f *testing.F) {
	for text := range notHistories {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"at":1,"call":1,"type":"invoke","client":3,"ops":[{"learn_association":{"source":"a","target":"b"}},{"read_neighbors":{"id":"a"}},{"add":{"id":"r","key":"k","delta":2}}]}` + "\n" +
		`{"at":2,"call":1,"type":"ok","results":[{},{"neighbors":["b"]},{"value":2}]}` + "\n" + `{"at":3,"call":2,"type":"invoke","ops":[{"read":{"id":"a"}}]}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
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
