package engine

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/lock"
	"github.com/sutra-grid/sutra-grid/transport"
)

func of(kind transport.OpKind, name string) transport.Op { return transport.Op{Kind: kind, ID: name} }

func adding(name, key string, n int64) transport.Op {
	return transport.Op{Kind: transport.OpAdd, ID: name, Key: key, Number: n}
}

func setting(name, key, value string) transport.Op {
	return transport.Op{Kind: transport.OpSetAttribute, ID: name, Key: key, Value: value}
}

func atLeast(name, key string, n int64) transport.Op {
	return transport.Op{Kind: transport.OpAttributeAtLeast, ID: name, Key: key, Number: n}
}

func partOf(c Command, part uint32, open bool, ops ...transport.Op) Command {
	p := *c.Prepare
	p.Part, p.Open, p.Ops = part, open, ops
	return Command{Kind: Prepare, Prepare: &p}
}

// TestOpsSeeWhatThoseBeforeDid is one write of all kinds.
func TestOpsSeeWhatThoseBeforeDid(t *testing.T) {
	e := newEngine(t)
	full := concept("a")
	full.Embedding, full.Metadata = []float32{1, 2}, &transport.Metadata{Attributes: map[string]string{"balance": "10"}, Tags: []string{"t"}}
	write(t, e, full, concept("b"), concept("c"), association("a", "b", 1))
	a := write(t, e,
		adding("a", "balance", -4), of(transport.OpRead, "a"), atLeast("a", "balance", 6),
		association("a", "c", 0), of(transport.OpReadNeighbors, "a"), cutting("a", "b"), of(transport.OpReadNeighbors, "a"),
		deleting("c"), of(transport.OpReadNeighbors, "a"), of(transport.OpRead, "c"), concept("c"),
		transport.Op{Kind: transport.OpVersion, ID: "c", Version: 1}, transport.Op{Kind: transport.OpVersion, ID: "a", Version: 2},
		of(transport.OpReadNeighbors, "nobody"))
	if len(a.Results) != 14 || a.Results[0].Value != 6 || a.Results[9].Found {
		t.Fatalf("results %+v", a.Results)
	}
	now := e.LogTime()
	want := transport.OpResult{Found: true, Content: "about a", Strength: 1, Confidence: 1, Attributes: map[string]string{"balance": "6"}, Tags: []string{"t"},
		Version: 2, Created: now - 1_000_000, Modified: now}
	if !reflect.DeepEqual(a.Results[1], want) {
		t.Errorf("read %+v, want %+v", a.Results[1], want)
	}
	for i, want := range map[int][]string{4: {"b", "c"}, 6: {"c"}, 8: nil, 13: nil} {
		if got := a.Results[i].Neighbors; !slices.Equal(got, want) {
			t.Errorf("neighbours of op %d are %q, want %q", i, got, want)
		}
	}
	// What an attribute's change leaves alone, and what follows it.
	if v, err := e.Vector("a"); err != nil || !slices.Equal(v, []float32{1, 2}) {
		t.Errorf("vector %v, %v", v, err)
	}
	for value, found := range map[string]int{"10": 0, "6": 1} {
		q, err := e.QueryByMetadata(&transport.QueryByMetadata{Attributes: map[string]string{"balance": value}})
		if err != nil || len(q.Items) != found {
			t.Errorf("balance %s is found %d times, %v; want %d", value, len(q.Items), err, found)
		}
	}
	if got, want := e.Stats(), (Stats{Concepts: 3, Vectors: 1, Written: 9}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestPreconditions(t *testing.T) {
	e := newEngine(t)
	a := concept("a")
	a.Metadata = &transport.Metadata{Attributes: map[string]string{"n": "5", "max": fmt.Sprint(math.MaxInt64), "min": fmt.Sprint(math.MinInt64), "text": "x"}}
	crowd := concept("crowd")
	crowd.Metadata = &transport.Metadata{Attributes: map[string]string{}}
	for i := range transport.MaxAttributes {
		crowd.Metadata.Attributes[fmt.Sprint(i)] = "v"
	}
	write(t, e, a, crowd)
	before := digestOf(t, e)
	stats := e.Stats()
	for i, op := range []transport.Op{
		of(transport.OpExists, "nobody"), of(transport.OpAbsent, "a"), {Kind: transport.OpVersion, ID: "a", Version: 1}, {Kind: transport.OpVersion, ID: "nobody"},
		{Kind: transport.OpAttributeEquals, ID: "a", Key: "n", Value: "5"}, {Kind: transport.OpAttributeEquals, ID: "a", Key: "none"},
		{Kind: transport.OpAttributeEquals, ID: "nobody"}, atLeast("a", "n", 7), atLeast("a", "none", 1), atLeast("a", "text", 0), atLeast("nobody", "n", 0),
		setting("nobody", "k", "v"), adding("nobody", "n", 1), adding("a", "text", 1), adding("a", "max", 1), adding("a", "min", -1),
		adding("crowd", "one more", 1), setting("crowd", "one more", "v"), association("a", "nobody", 0), half(transport.OpLinkOut, "nobody", "far"),
	} {
		t.Run(fmt.Sprintf("%s %s %s", op.Kind, op.ID, op.Key), func(t *testing.T) {
			// Behind ops that could be, so that there is something to take back.
			ops := []transport.Op{adding("a", "n", 1), deleting("crowd"), crowd, concept("new"), association("a", "new", 0), op}
			for again := range 2 {
				if err := refusal(t, do(t, e, writeOf(byte(i+1), testTime+1, ops...))[0], event.KindPrecondition); err.OpNumber != 6 {
					t.Errorf("time %d: op number %d, want 6", again, err.OpNumber)
				}
			}
			c := prepareOf(byte(100+i), 1, 5, ops...)
			if err := noVote(t, do(t, e, c)[0], event.KindPrecondition, false); err.OpNumber != 6 {
				t.Errorf("vote: op number %d, want 6", err.OpNumber)
			}
		})
	}
	if got := e.Stats(); got != stats {
		t.Errorf("stats %+v, want %+v: something stayed", got, stats)
	}
	if digestOf(t, e) == before {
		t.Error("no refusal was kept")
	}
	write(t, e, setting("crowd", "7", "w"), adding("a", "none", -3), atLeast("a", "none", -3), adding("a", "max", -1))
	if c, _, err := e.Concept("a"); err != nil || c.Attributes["none"] != "-3" || c.Attributes["n"] != "5" || c.Version != 3 {
		t.Errorf("a is %+v, %v", c, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	e := newEngine(t)
	big := concept("big")
	big.Content = strings.Repeat("x", 6<<20)
	write(t, e, big)
	read := of(transport.OpRead, "big")
	three := writeOf(1, issuedBy(e), read, adding("big", "n", 1), read, read)
	refusal(t, do(t, e, three)[0], event.KindTooLarge)
	refusal(t, do(t, e, three)[0], event.KindTooLarge)
	noVote(t, do(t, e, prepareOf(2, 1, 5, read, read, read))[0], event.KindTooLarge, false)
	if c, _, err := e.Concept("big"); err != nil || c.Version != 1 {
		t.Errorf("version %d, %v", c.Version, err)
	}
	// Two are answered, once: they are too large to be kept.
	two := writeOf(3, issuedBy(e), read, read)
	if a := do(t, e, two)[0]; a.Err != nil || len(a.Results) != 2 || a.ResultsOmitted {
		t.Errorf("%v, %d results", a.Err, len(a.Results))
	}
	if a := do(t, e, two)[0]; a.Err != nil || !a.AlreadyDone || a.Results != nil || !a.ResultsOmitted {
		t.Errorf("again: %+v", a)
	}
	// What is written anew is bounded too.
	var many []transport.Op
	for range 20 {
		many = append(many, adding("big", "n", 1))
	}
	refusal(t, do(t, e, writeOf(4, issuedBy(e), many...))[0], event.KindTooLarge)
	if a := do(t, e, writeOf(5, issuedBy(e), many[:5]...))[0]; a.Err != nil || a.Results[4].Value != 5 {
		t.Errorf("%+v", a)
	}
}

func TestKeptResults(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	write(t, e, concept("a"))
	add := writeOf(1, issuedBy(e), adding("a", "n", 7), of(transport.OpRead, "a"))
	first := do(t, e, add)[0]
	write(t, e, adding("a", "n", 1))
	same := func(what string) {
		t.Helper()
		if a := do(t, e, add)[0]; a.Err != nil || !a.AlreadyDone || resultsText(a.Results) != resultsText(first.Results) || a.ResultsOmitted {
			t.Fatalf("%s: %+v, want %+v", what, a, first)
		}
	}
	same("repeated")
	mustClose(t, e)
	e = mustOpen(t, testOptions(t, fs))
	defer func() { mustClose(t, e) }()
	same("after a restart")
	late := entryAt(t, e.Applied()+1)
	late.Time = e.LogTime() + 61_000_000
	e.Apply([]raftgroup.Entry{late})
	if a := do(t, e, add)[0]; a.Err != nil || !a.AlreadyDone || a.Results != nil || !a.ResultsOmitted {
		t.Fatalf("a minute later: %+v", a)
	}
	// Room is bounded: the oldest go first, of attempts too.
	yes(t, do(t, e, prepareOf(2, 20, 5, adding("a", "n", 1)))[0])
	do(t, e, finishOf(2, 20, 5, true))
	e.o.bounds.resultsBytes = e.state.kept.bytes
	if got, err := e.Results(&transport.TxnResults{TxnID: id(2), Attempt: 20}); err != nil || got.Omitted || got.Results[0].Value != 9 {
		t.Fatalf("results %+v, %v", got, err)
	}
	late = entryAt(t, e.Applied()+1)
	late.Time = e.LogTime() + 1_000_000
	e.Apply([]raftgroup.Entry{late})
	write(t, e, adding("a", "n", 1))
	if got, err := e.Results(&transport.TxnResults{TxnID: id(2), Attempt: 20}); err != nil || !got.Omitted {
		t.Fatalf("results %+v, %v: there was no room for them", got, err)
	}
	if e.state.kept.len() != 1 || e.state.kept.bytes > e.o.bounds.resultsBytes {
		t.Fatalf("%d results of %d bytes are kept", e.state.kept.len(), e.state.kept.bytes)
	}
}

// TestResultsOfAnIDUsedAgain: of a request that was forgotten and an id that was then used again one row is kept, and counted once.
func TestResultsOfAnIDUsedAgain(t *testing.T) {
	fs := vfs.NewMem()
	o := testOptions(t, fs)
	e := mustOpen(t, o)
	write(t, e, concept("a"))
	e.o.bounds.requests = 1
	for range 2 {
		if a := do(t, e, writeOf(1, issuedBy(e)+1, adding("a", "n", 7), of(transport.OpRead, "a")))[0]; a.Err != nil || a.AlreadyDone {
			t.Fatalf("%+v", a)
		}
		write(t, e, concept("b")) // another one: the first is forgotten
		late := entryAt(t, e.Applied()+1)
		late.Time = e.LogTime() + 1_000_000
		e.Apply([]raftgroup.Entry{late})
	}
	n, size := e.state.kept.len(), e.state.kept.bytes
	mustClose(t, e)
	e = mustOpen(t, o)
	defer func() { mustClose(t, e) }()
	if n != 1 || n != e.state.kept.len() || size != e.state.kept.bytes {
		t.Errorf("%d results of %d bytes are kept, %d of %d after a restart; want one", n, size, e.state.kept.len(), e.state.kept.bytes)
	}
}

func TestSharedLocks(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	yes(t, do(t, e, prepareOf(1, 10, 5, of(transport.OpRead, "a"), adding("b", "n", 1)))[0])
	yes(t, do(t, e, prepareOf(2, 20, 5, of(transport.OpExists, "a")))[0])
	unlocked(t, e, "a") // for plain reads
	locked(t, e, "b", 1)
	if a := do(t, e, writeOf(3, issuedBy(e), of(transport.OpRead, "a")))[0]; a.Err != nil {
		t.Errorf("a read of a shared row: %+v", a)
	}
	for _, op := range []transport.Op{concept("a"), adding("a", "n", 1), association("a", "b", 0), deleting("a")} {
		if err := refusal(t, do(t, e, writeOf(4, issuedBy(e), op))[0], event.KindLocked); err.Txn != id(1) {
			t.Errorf("%s is refused for %s, want the oldest holder", op.Kind, err.Txn)
		}
	}
	refusal(t, do(t, e, writeOf(4, issuedBy(e), of(transport.OpRead, "b")))[0], event.KindLocked)
	noVote(t, do(t, e, prepareOf(5, 50, 5, of(transport.OpRead, "a"), setting("a", "k", "v")))[0], event.KindLocked, true)
	// A read and a write of one row in one prepare take it exclusively.
	yes(t, do(t, e, prepareOf(6, 60, 5, of(transport.OpRead, "c"), concept("c")))[0])
	locked(t, e, "c", 6)
	do(t, e, finishOf(1, 10, 5, true), finishOf(2, 20, 5, false))
	if a := do(t, e, writeOf(4, issuedBy(e), adding("a", "n", 1)))[0]; a.Err != nil {
		t.Errorf("when nobody reads: %+v", a)
	}
}

// TestDeleteInParts: a concept whose associations lead elsewhere is deleted with the help of the other shards.
func TestDeleteInParts(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"), concept("c"), association("a", "b", 1), association("c", "a", 2))
	write(t, e, half(transport.OpLinkOut, "a", "far"), half(transport.OpLinkIn, "away", "a"), half(transport.OpLinkOut, "b", "far"))
	// As a write it is told that it must be a transaction, and that is not kept.
	mixed := writeOf(9, issuedBy(e), adding("b", "n", 1), deleting("a"))
	if err := refusal(t, do(t, e, mixed)[0], event.KindNeedsTxn); err.OpNumber != 2 || !strings.Contains(err.Message, `"far", "away"`) {
		t.Errorf("refusal %+v does not name the op and the ends", err)
	}
	first := prepareOf(1, 10, 5, adding("b", "n", 1), deleting("a"), of(transport.OpRead, "a"))
	first.Prepare.Open = true
	wantFar := []transport.AssociationID{{Source: "a", Target: "far"}, {Source: "away", Target: "a"}}
	for range 2 {
		a := do(t, e, first)[0]
		yes(t, a)
		if !reflect.DeepEqual(a.Prepare.Far, wantFar) || len(a.Prepare.Results) != 3 || a.Prepare.Results[0].Value != 1 || a.Prepare.Results[2].Found {
			t.Fatalf("vote %+v, want far %+v", a.Prepare, wantFar)
		}
	}
	for _, name := range []string{"a", "b", "c"} { // the neighbours, too
		locked(t, e, name, 1)
	}
	if list := e.Prepared(); len(list) != 1 || !list[0].Open {
		t.Errorf("prepared %+v, want it open", list)
	}
	refusal(t, do(t, e, finishOf(1, 10, 5, true))[0], event.KindConflict)
	if there, _ := e.Exists("a"); !there {
		t.Fatal("an open attempt was committed")
	}
	second := partOf(first, 1, false, half(transport.OpUnlinkOutType, "b", "far"), half(transport.OpUnlinkInType, "gone", "c"))
	second.Prepare.Participants = append(slices.Clone(first.Prepare.Participants), "shard-2")
	for range 2 {
		yes(t, do(t, e, second)[0])
		yes(t, do(t, e, first)[0])
	}
	if list := e.Prepared(); list[0].Open || len(list[0].Participants) != 3 {
		t.Errorf("prepared %+v, want it closed, with all participants", list)
	}
	if a := do(t, e, finishOf(1, 10, 5, true))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("commit %+v", a)
	}
	if got, want := e.Stats(), (Stats{Concepts: 2, Written: 10}); got != want {
		t.Errorf("stats %+v, want %+v: every association is gone", got, want)
	}
	got, err := e.Results(&transport.TxnResults{TxnID: id(1), Attempt: 10})
	if err != nil || got.Omitted || len(got.Results) != 5 || got.Results[0].Value != 1 {
		t.Errorf("results %+v, %v; want those of both parts", got, err)
	}
	// The horizon takes them along.
	do(t, e, withHorizon(finishOf(8, 80, 4, false), 5))
	if got, err := e.Results(&transport.TxnResults{TxnID: id(1), Attempt: 10}); err != nil || !got.Omitted || e.state.kept.len() != 0 {
		t.Errorf("results %+v, %v; the horizon has passed them", got, err)
	}
}

func TestPartsStandAndFallTogether(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"), association("a", "b", 0))
	first := prepareOf(1, 10, 5, deleting("a"))
	first.Prepare.Open = true
	// A later part that cannot be drops the attempt, locks and all, and it stays refused.
	yes(t, do(t, e, first)[0])
	noVote(t, do(t, e, partOf(first, 1, false, of(transport.OpExists, "a")))[0], event.KindPrecondition, false)
	unlocked(t, e, "a")
	unlocked(t, e, "b")
	noVote(t, do(t, e, first)[0], event.KindPrecondition, false)
	noVote(t, do(t, e, partOf(first, 2, false))[0], event.KindPrecondition, false)
	if len(e.Prepared()) != 0 {
		t.Fatal("still prepared")
	}
	// A part that meets another transaction's lock, likewise; its own are no obstacle.
	yes(t, do(t, e, prepareOf(2, 20, 5, of(transport.OpRead, "held")))[0])
	first.Prepare.Attempt = 11
	yes(t, do(t, e, first)[0])
	noVote(t, do(t, e, partOf(first, 1, false, concept("b"), concept("held")))[0], event.KindLocked, true)
	unlocked(t, e, "b")
	// A shard that comes late knows a later part only.
	late := partOf(prepareOf(3, 30, 5), 1, false, half(transport.OpUnlinkOutType, "a", "gone"))
	yes(t, do(t, e, late)[0])
	if list := e.Prepared(); len(list) != 2 || list[1].Open {
		t.Fatalf("prepared %+v", list)
	}
	for n := range uint32(maxParts) {
		a := do(t, e, partOf(late, 2+n, false))[0]
		if n < maxParts-1 {
			yes(t, a)
			continue
		}
		noVote(t, a, event.KindTooLarge, false)
	}
	unlocked(t, e, "a")
	// Both parts of plain ops, in one entry.
	plainly := prepareOf(4, 40, 5, concept("x"))
	plainly.Prepare.Open = true
	for i, a := range do(t, e, plainly, partOf(plainly, 1, false, concept("y")), finishOf(4, 40, 5, true)) {
		if a.Err != nil || (a.Prepare != nil && !a.Prepare.Vote) {
			t.Fatalf("answer %d: %+v", i, a)
		}
	}
	if s := e.Stats(); s.Concepts != 4 {
		t.Errorf("stats %+v", s)
	}
}

// TestManyDeletesInParts: bounds hold for a part, not for the execution of all of them again.
func TestManyDeletesInParts(t *testing.T) {
	e := newEngine(t)
	const hubs, spokes = 4, 8
	e.o.bounds.removed = 20
	for h := range hubs {
		ops := []transport.Op{concept(fmt.Sprint("hub", h))}
		for i := range spokes {
			ops = append(ops, half(transport.OpLinkOut, fmt.Sprint("hub", h), fmt.Sprint("far", i)))
		}
		write(t, e, ops...)
	}
	all := prepareOf(1, 10, 5)
	for h := range hubs {
		all.Prepare.Ops = append(all.Prepare.Ops, deleting(fmt.Sprint("hub", h)))
	}
	noVote(t, do(t, e, all)[0], event.KindTooLarge, false)
	all.Prepare.Attempt = 11
	yes(t, do(t, e, partOf(all, 0, true, all.Prepare.Ops[:hubs/2]...))[0])
	yes(t, do(t, e, partOf(all, 1, false, all.Prepare.Ops[hubs/2:]...))[0])
	yes(t, do(t, e, partOf(all, 2, false))[0])
	if a := do(t, e, finishOf(1, 11, 5, true))[0]; a.Err != nil {
		t.Fatalf("commit %+v", a)
	}
	if s := e.Stats(); s.Concepts != 0 || s.Edges != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestDeleteMeetsLocksOfNeighbours: what only Apply finds is locked or refused there.
func TestDeleteMeetsLocksOfNeighbours(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"), association("b", "a", 0))
	yes(t, do(t, e, prepareOf(1, 10, 5, of(transport.OpReadNeighbors, "b")))[0])
	a := do(t, e, writeOf(2, issuedBy(e), concept("c"), deleting("a")))[0]
	if err := refusal(t, a, event.KindLocked); err.Txn != id(1) || err.OpNumber != 2 || a.Row != "b" {
		t.Errorf("refusal %+v, row %q", err, a.Row)
	}
	if there, _ := e.Exists("c"); there {
		t.Error("half of a refused write is there")
	}
	if err := noVote(t, do(t, e, prepareOf(3, 30, 5, deleting("a")))[0], event.KindLocked, true); err.Txn != id(1) {
		t.Errorf("refusal %+v", err)
	}
	do(t, e, finishOf(1, 10, 5, false))
	yes(t, do(t, e, prepareOf(3, 31, 5, deleting("a")))[0])
	if h, ok := e.Conflict(lock.Row{ID: "b", Mode: lock.Shared}, event.TxnID{}); !ok || h.Txn != id(3) {
		t.Errorf("the neighbour is held by %v, %v", h, ok)
	}
}
