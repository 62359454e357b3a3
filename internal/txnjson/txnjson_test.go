package txnjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// types knows two names.
func types(name string) (uint32, error) {
	switch name {
	case "causal":
		return 1, nil
	case "likes":
		return 1000, nil
	}
	return 0, &event.Error{Kind: event.KindUnavailable, Message: "no leader gives " + name + " a number"}
}

// every has all operations there are.
func every(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/every.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecode(t *testing.T) {
	got, err := Decode(every(t), types)
	if err != nil {
		t.Fatal(err)
	}
	want := &transport.Txn{RequestID: event.RequestID{0: 0x0f, 15: 0xff}, TimeoutMillis: 2000, Ops: []transport.Op{
		{Kind: transport.OpRead, ID: "a"}, {Kind: transport.OpReadNeighbors, ID: "a"},
		{Kind: transport.OpLearnConcept, ID: "a", Content: "…", Strength: 0.5, Confidence: 0, Metadata: &transport.Metadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"t"}}},
		{Kind: transport.OpLearnConcept, ID: "b", Embedding: []float32{1, -0.5}, Strength: 1, Confidence: 1},
		{Kind: transport.OpDeleteConcept, ID: "a"},
		{Kind: transport.OpLearnAssociation, ID: "a", Target: "b", AssocType: 1, Confidence: 0.25},
		{Kind: transport.OpLearnAssociation, ID: "a", Target: "b", AssocType: 7, Confidence: 1},
		{Kind: transport.OpLearnAssociation, ID: "a", Target: "b", Confidence: 1},
		{Kind: transport.OpDeleteAssociation, ID: "a", Target: "b"}, {Kind: transport.OpDeleteAssociationType, ID: "a", Target: "b", AssocType: 1000},
		{Kind: transport.OpSetAttribute, ID: "a", Key: "k", Value: ""}, {Kind: transport.OpAdd, ID: "a", Key: "balance", Number: -5},
		{Kind: transport.OpExists, ID: "a"}, {Kind: transport.OpAbsent, ID: "a"}, {Kind: transport.OpVersion, ID: "a", Version: 3},
		{Kind: transport.OpAttributeEquals, ID: "a", Key: "k", Value: "v"}, {Kind: transport.OpAttributeAtLeast, ID: "a", Key: "balance", Number: 9223372036854775807}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b, err := Encode(got)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(b, types)
	if err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("encoded and decoded again: %s\n%v", b, err)
	}
}

// TestRefused: what is not understood is never passed over.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                             "not the JSON",
		`{"ops":[]} {}`:                "behind the JSON",
		`{"ops":[],"timeout":1}`:       "unknown field",
		`{"ops":[],"timeout_ms":-1}`:   "timeout_ms",
		`{"ops":[],"request_id":"0f"}`: "32 hex digits",
		`{"ops":[],"request_id":"00000000000000000000000000000000"}`:   "not all 0",
		`{"ops":[],"request_id":"0f0000000000000000000000000000ff00"}`: "32 hex digits",
		`{"ops":[{}]}`: "ops[0]: 0 members",
		`{"ops":[{"read":{"id":"a"},"absent":{"id":"a"}}]}`:                       "ops[0]: 2 members",
		`{"ops":[{"read":{"id":"a"}},{"link_in":{"id":"a"}}]}`:                    `ops[1]: unknown operation "link_in"`,
		`{"ops":[{"delete_association_type":{"source":"a","target":"b"}}]}`:       "unknown operation",
		`{"ops":[{"read":null}]}`:                                                 "want an object",
		`{"ops":[{"read":{}}]}`:                                                   "read: id is missing",
		`{"ops":[{"read":{"id":null}}]}`:                                          "read: id is missing",
		`{"ops":[{"read":{"id":1}}]}`:                                             "cannot unmarshal",
		`{"ops":[{"read":{"id":"a","key":"k"}}]}`:                                 "unknown field",
		`{"ops":[{"add":{"id":"a","key":"k"}}]}`:                                  "add: delta is missing",
		`{"ops":[{"add":{"id":"a","key":"k","delta":1.5}}]}`:                      "cannot unmarshal",
		`{"ops":[{"add":{"id":"a","key":"k","delta":9223372036854775808}}]}`:      "cannot unmarshal",
		`{"ops":[{"set_attribute":{"id":"a","key":"k","value":5}}]}`:              "cannot unmarshal",
		`{"ops":[{"version":{"id":"a"}}]}`:                                        "version is missing",
		`{"ops":[{"learn_association":{"source":"a"}}]}`:                          "target is missing",
		`{"ops":[{"learn_association":{"source":"a","target":"b","type":-1}}]}`:   "type -1",
		`{"ops":[{"learn_association":{"source":"a","target":"b","type":null}}]}`: "type null",
		`{"ops":[{"learn_concept":{"id":"a","attributes":{"k":1}}}]}`:             "cannot unmarshal",
		"{\"ops\":[{\"read\":{\"id\":\"\xff\"}}]}":                                "not UTF-8",
	} {
		got, err := Decode([]byte(text), types)
		var e *event.Error
		if !errors.As(err, &e) || e.Kind != event.KindInvalid || !strings.Contains(e.Message, want) {
			t.Errorf("%s: got %+v, %v; want one that says %q", text, got, err, want)
		}
	}
	_, err := Decode([]byte(`{"ops":[{"read":{"id":"a"}},{"learn_association":{"source":"a","target":"b","type":"unheard-of"}}]}`), types)
	if !errors.Is(err, &event.Error{Kind: event.KindUnavailable}) {
		t.Errorf("a type that nobody can number: %v", err)
	}
	many := `{"ops":[` + strings.Repeat(`{"read":{"id":"a"}},`, transport.MaxOps) + `{"read":{"id":"a"}}]}`
	if _, err := Decode([]byte(many), types); !errors.Is(err, &event.Error{Kind: event.KindTooLarge}) {
		t.Errorf("1,001 operations: %v", err)
	}
}

func TestReplies(t *testing.T) {
	ops := []transport.Op{{Kind: transport.OpRead}, {Kind: transport.OpRead}, {Kind: transport.OpReadNeighbors}, {Kind: transport.OpReadNeighbors}, {Kind: transport.OpAdd}, {Kind: transport.OpAdd},
		{Kind: transport.OpDeleteConcept}, {Kind: transport.OpExists}}
	ok := &transport.TxnOk{TxnID: event.TxnID{1}, Seq: 7, Results: []transport.OpResult{
		{Found: true, Content: "c", Strength: 0.5, Confidence: 1, Version: 2, Created: 1_500_000, Modified: 2_000_000}, {},
		{Neighbors: []string{"b", "a"}}, {}, {Value: -5}, {}, {Found: true}, {}}}
	e := &event.Error{Kind: event.KindPrecondition, Op: "txn", Message: "no", OpNumber: 1, Txn: event.TxnID{1}}
	var got bytes.Buffer
	for _, body := range []any{CommittedOf(ops, ok), CommittedOf(ops[6:], &transport.TxnOk{TxnID: event.TxnID{1}}),
		CommittedOf(ops, &transport.TxnOk{TxnID: event.TxnID{1}, ResultsOmitted: true}), AbortedOf(e, "precondition"), AbortedOf(&event.Error{Kind: event.KindAborted}, "deadline")} {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(b, '\n'))
	}
	want, err := os.ReadFile("testdata/replies.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got\n%swant\n%s", got.Bytes(), want)
	}
	var back Committed
	first, _, _ := bytes.Cut(want, []byte("\n"))
	if err := json.Unmarshal(first, &back); err != nil || !reflect.DeepEqual(&back, CommittedOf(ops, ok)) {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

// FuzzDecode: nothing panics, and what is taken is encoded to the same.
func FuzzDecode(f *testing.F) {
	f.Add(every(f))
	f.Add([]byte(`{"ops":[{"read":{"id":"a"}}]}`))
	f.Add([]byte(`{"request_id":"0f0000000000000000000000000000ff","ops":[{"learn_concept":{"id":"é","embedding":[1e-45],"strength":3.4e38}}]}`))
	f.Add([]byte(`{"ops":[{"add":{"id":"a","key":"k","delta":-9223372036854775808}},{"delete_association":{"source":"a","target":"b","type":"likes"}}]}`))
	f.Add([]byte(`{"ops":[{"read":{"id":"\ud800"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		txn, err := Decode(data, types)
		if err != nil {
			var e *event.Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		b, err := Encode(txn)
		if err != nil {
			t.Fatalf("%+v: %v", txn, err)
		}
		again, err := Decode(b, types)
		if err != nil || !reflect.DeepEqual(again, txn) {
			t.Fatalf("%s\nbecame %+v, %v\nwas %+v", b, again, err, txn)
		}
	})
}
