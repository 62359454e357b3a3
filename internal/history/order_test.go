package history

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// seen is a transaction that reads concepts: "a b !c" finds a and b, not c.
func seen(call uint64, from, to int64, text string) Txn {
	t := Txn{Call: call, Invoke: from, Return: to, Outcome: OK}
	for _, word := range strings.Fields(text) {
		t.Ops = append(t.Ops, transport.Op{Kind: transport.OpRead, ID: strings.TrimPrefix(word, "!")})
		t.Results = append(t.Results, transport.OpResult{Found: word[0] != '!'})
	}
	return t
}

func TestForks(t *testing.T) {
	good := []Txn{seen(1, 0, 9, "g-1 !g-2 !g-3"), seen(2, 0, 9, "g-1 !g-2 g-3"), seen(3, 0, 9, "!g-1 !g-2"), seen(4, 0, 9, "g-1 g-2 g-3"), seen(5, 0, 9, "h-1 !h-2"), seen(6, 0, 9, "h-1 h-2")}
	if r := Forks(good, nil); !r.Valid() || r.Checked != 6 {
		t.Error(r)
	}
	for _, bad := range [][]Txn{{seen(1, 0, 9, "g-1 !g-2"), seen(2, 0, 9, "!g-1 g-2")}, {seen(1, 0, 9, "g-1 !g-2 !g-3"), seen(2, 0, 9, "!g-1 g-2 g-3")}} {
		if r := Forks(append(bad, good...), nil); !r.Has(LongFork) {
			t.Error(r)
		}
	}
	if r := Forks([]Txn{seen(1, 0, 9, "g-1")}, nil); !r.Has(Empty) {
		t.Error(r)
	}
}

func TestSequences(t *testing.T) {
	good := []Txn{seen(1, 0, 5, "c-2"), seen(2, 1, 3, "!c-1"), seen(3, 6, 7, "c-1"), seen(4, 8, 9, "!c-3"), seen(5, 8, 9, "!d-1")}
	if r := Sequences(good, nil); !r.Valid() || r.Checked != 5 {
		t.Error(r)
	}
	for _, bad := range []Txn{seen(6, 6, 9, "!c-1"), seen(6, 8, 9, "!c-2")} {
		if r := Sequences(append(good, bad), nil); !r.Has(Sequential) {
			t.Error(r)
		}
	}
	if r := Sequences(nil, nil); !r.Has(Empty) {
		t.Error(r)
	}
}

func TestCounters(t *testing.T) {
	give := func(call uint64, id string, value int64) Txn {
		return Txn{Call: call, Outcome: OK, Ops: []transport.Op{{Kind: transport.OpAdd, ID: id, Key: "n", Number: 1}}, Results: []transport.OpResult{{Value: value}}}
	}
	if r := Counters([]Txn{give(1, "a", 1), give(2, "b", 1), give(3, "a", 3)}, nil); !r.Valid() || r.Checked != 3 {
		t.Error(r)
	}
	if r := Counters([]Txn{give(1, "a", 1), give(2, "a", 1)}, nil); !r.Has(DuplicateID) {
		t.Error(r)
	}
	if r := Counters(nil, nil); !r.Has(Empty) {
		t.Error(r)
	}
}

func TestSets(t *testing.T) {
	create := func(call uint64, id string, from, to int64, o Outcome) Txn {
		return Txn{Call: call, Invoke: from, Return: to, Outcome: o, Ops: []transport.Op{{Kind: transport.OpLearnConcept, ID: id}}}
	}
	query := func(from, to int64, ids ...string) Query {
		return Query{Span: Span{Call: 9, Invoke: from, Return: to, Outcome: OK}, QueryOp: QueryOp{IndexScan, "s-"}, IDs: ids}
	}
	txns := []Txn{create(1, "s-1", 0, 5, OK), create(2, "s-2", 0, Never, Unknown), create(3, "s-3", 0, 5, Fail)}
	if r := Sets(&Log{Txns: txns, Queries: []Query{query(3, 8), query(6, 8, "s-1"), query(7, 9, "s-2", "s-1"), query(10, 12, "s-1", "s-2")}}, nil); !r.Valid() || r.Checked != 4 {
		t.Error(r)
	}
	for want, queries := range map[Class][]Query{
		LostElement: {query(6, 8)},
		G1a:         {query(6, 8, "s-1", "s-3")},
		Garbage:     {query(6, 8, "s-1", "s-4")},
		Empty:       nil,
	} {
		if r := Sets(&Log{Txns: txns, Queries: queries}, nil); !r.Has(want) {
			t.Errorf("want %s, got %s", want, r)
		}
	}
	if r := Sets(&Log{Txns: txns, Queries: []Query{query(6, 8, "s-1", "s-2"), query(9, 10, "s-1")}}, nil); !r.Has(LostElement) {
		t.Errorf("what was seen once is gone: %s", r)
	}
}

func TestOwners(t *testing.T) {
	list := func(ids ...string) Query {
		return Query{Span: Span{Outcome: OK}, QueryOp: QueryOp{Index: IndexNodes}, IDs: ids}
	}
	if r := Owners(&Log{Queries: []Query{list("node-1@a", "node-2@b"), list("node-1@a")}}); !r.Valid() || r.Checked != 2 {
		t.Error(r)
	}
	for _, bad := range []Query{list("node-1@b"), list("node-2@a", "node-2@a")} {
		if r := Owners(&Log{Queries: []Query{list("node-1@a"), bad}}); !r.Has(TwoOwners) {
			t.Error(r)
		}
	}
	if r := Owners(&Log{}); !r.Has(Empty) {
		t.Error(r)
	}
}

// around is a transaction that reads concepts with their neighbours: "a:b,c" finds a, "!a:" does not.
func around(call uint64, from, to int64, text string) (t Txn) {
	t = Txn{Call: call, Invoke: from, Return: to, Outcome: OK}
	for _, word := range strings.Fields(text) {
		id, list, _ := strings.Cut(strings.TrimPrefix(word, "!"), ":")
		t.Ops = append(t.Ops, transport.Op{Kind: transport.OpRead, ID: id}, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
		t.Results = append(t.Results, transport.OpResult{Found: word[0] != '!'}, transport.OpResult{Neighbors: strings.FieldsFunc(list, func(r rune) bool { return r == ',' })})
	}
	return t
}

func TestEdges(t *testing.T) {
	if r := Edges([]Txn{around(1, 0, 9, "a:b,c b:a c:a,elsewhere !d:")}, nil); !r.Valid() || r.Checked != 1 {
		t.Error(r)
	}
	for want, text := range map[Class]string{HalfEdge: "a:b b:", DanglingEdge: "a:b !b:a"} {
		if r := Edges([]Txn{around(1, 0, 9, text)}, nil); !r.Has(want) {
			t.Errorf("want %s, got %s", want, r)
		}
	}
	if r := Edges([]Txn{around(1, 0, 9, "!a:b b:a")}, nil); !r.Has(DanglingEdge) {
		t.Error(r)
	}
	if r := Edges(nil, nil); !r.Has(Empty) {
		t.Error(r)
	}
}

func TestIndexes(t *testing.T) {
	ask := func(index, of string, ids ...string) Query {
		return Query{Span: Span{Call: 5, Invoke: 20, Return: 30, Outcome: OK}, QueryOp: QueryOp{index, of}, IDs: ids}
	}
	rest := []Txn{around(1, 0, 9, "g-a:g-b g-b:g-a !g-c:"), around(2, 40, 50, "g-a:g-b g-b:g-a !g-c:")}
	good := []Query{ask(IndexScan, "g-", "g-b", "g-a"), ask(IndexMetadata, "g-", "g-a", "g-b"), ask(IndexIncoming, "g-b", "g-a"), ask(IndexIncoming, "g-c")}
	if r := Indexes(&Log{Txns: rest, Queries: good}, nil); !r.Valid() || r.Checked != 4 {
		t.Error(r)
	}
	for i, bad := range []Query{ask(IndexScan, "g-", "g-a"), ask(IndexMetadata, "g-", "g-a", "g-b", "g-c"), ask(IndexIncoming, "g-c", "g-a"), ask(IndexIncoming, "g-a")} {
		if r := Indexes(&Log{Txns: rest, Queries: []Query{bad}}, nil); !r.Has(IndexDiffers) {
			t.Error(i, r)
		}
	}
	moved := []Txn{rest[0], around(2, 40, 50, "g-a: g-b: !g-c:")}
	if r := Indexes(&Log{Txns: moved, Queries: []Query{ask(IndexScan, "g-")}}, nil); !r.Has(Empty) {
		t.Error("nothing was at rest:", r)
	}
}

// TestQueriesRecordedAndRead: so are events and steps of watches.
func TestQueriesRecordedAndRead(t *testing.T) {
	var file strings.Builder
	r := NewRecorder(&file)
	first, second := r.InvokeQuery(3, QueryOp{IndexScan, "s-"}), r.InvokeQuery(4, QueryOp{IndexNodes, ""})
	r.Event(feedOf()[1])
	r.QueryOK(first, []string{"s-1"})
	step := WatchStep{Watcher: "w", From: 3, Begun: true, Seqs: []uint64{3}, Next: 4, Newest: 9}
	r.Watch(step)
	r.Fail(second, 0, "no")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLog(strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(l.Events, feedOf()[1:2]) || !reflect.DeepEqual(l.Watches, []WatchStep{step}) || len(l.Queries) != 2 {
		t.Fatalf("%+v", l)
	}
	a, b := l.Queries[0], l.Queries[1]
	if !slices.Equal(a.IDs, []string{"s-1"}) || a.QueryOp != (QueryOp{IndexScan, "s-"}) || a.Client != 3 || a.Outcome != OK || b.Outcome != Fail {
		t.Errorf("%+v", l.Queries)
	}
}
