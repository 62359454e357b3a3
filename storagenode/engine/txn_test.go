package engine

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

func prepareOf(txn byte, attempt, begin uint64, ops ...transport.Op) Command {
	return Command{Kind: Prepare, Prepare: &transport.Prepare{
		TxnID: id(txn), Attempt: attempt, Begin: event.Position{N: 1, Seq: begin}, Start: testTime + int64(txn), Issued: testTime + int64(txn),
		Coordinator: "master-2", Participants: []event.ShardID{"shard-1", testShard}, Ops: ops,
	}}
}

func finishOf(txn byte, attempt, begin uint64, commit bool) Command {
	return Command{Kind: Finish, Finish: &transport.Finish{TxnID: id(txn), Attempt: attempt, Begin: event.Position{N: 1, Seq: begin}, Commit: commit}}
}

func withHorizon(c Command, seq uint64) Command {
	at := event.Position{N: 1, Seq: seq}
	if c.Prepare != nil {
		c.Prepare.Horizon = at
	} else {
		c.Finish.Horizon = at
	}
	return c
}

func yes(t failer, a Answer) {
	t.Helper()
	if a.Err != nil || a.Prepare == nil || !a.Prepare.Vote {
		t.Fatalf("answer %+v, want a yes", a)
	}
}

func noVote(t failer, a Answer, kind event.Kind, retry bool) *event.Error {
	t.Helper()
	if a.Err != nil || a.Prepare == nil || a.Prepare.Vote || a.Prepare.AlreadyDone || a.Prepare.Reason == nil {
		t.Fatalf("answer %+v (%+v), want a no", a, a.Prepare)
	}
	wantKind(t, a.Prepare.Reason, kind)
	if a.Prepare.Retry != retry {
		t.Fatalf("retry %v of a no for %v", a.Prepare.Retry, a.Prepare.Reason)
	}
	return a.Prepare.Reason
}

func doneBefore(t failer, a Answer, seq uint64) {
	t.Helper()
	if a.Err != nil || !a.AlreadyDone || a.Seq != seq {
		t.Fatalf("answer %+v, want done at %d before", a, seq)
	}
}

func locked(t failer, e *Engine, name string, txn byte) {
	t.Helper()
	if h, ok := e.Holder(name); !ok || h.Txn != id(txn) {
		t.Fatalf("holder of %q is %v, %v; want transaction %d", name, h, ok, txn)
	}
}

func unlocked(t failer, e *Engine, name string) {
	t.Helper()
	if h, ok := e.Holder(name); ok {
		t.Fatalf("%q is held by %v", name, h)
	}
}

func TestPrepareAndCommitHalves(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("here"))
	p := prepareOf(1, 10, 5, half(transport.OpLinkOut, "here", "there"), half(transport.OpLinkIn, "there", "here"), concept("new"))
	yes(t, do(t, e, p)[0])
	locked(t, e, "here", 1)
	locked(t, e, "new", 1)
	unlocked(t, e, "there")
	if got := targets(t, e, "here"); len(got) != 0 {
		t.Fatalf("targets %v before the commit", got)
	}
	if s := e.Stats(); s.Concepts != 1 || s.Edges != 0 {
		t.Fatalf("stats %+v before the commit", s)
	}
	list := e.Prepared()
	if len(list) != 1 || list[0].TxnID != id(1) || list[0].Attempt != 10 || list[0].Since != e.LogTime() ||
		list[0].Coordinator != "master-2" || !slices.Equal(list[0].Participants, []event.ShardID{"shard-1", testShard}) {
		t.Fatalf("prepared %+v", list)
	}
	yes(t, do(t, e, p)[0]) // again, and still one

	released := e.LockReleased()
	a := do(t, e, finishOf(1, 10, 5, true))[0]
	if a.Err != nil || a.AlreadyDone || a.Seq != e.Applied() {
		t.Fatalf("answer %+v", a)
	}
	<-released
	unlocked(t, e, "here")
	unlocked(t, e, "new")
	if got := targets(t, e, "here"); !slices.Equal(got, []string{"there"}) {
		t.Fatalf("targets %v after the commit", got)
	}
	in, err := e.Expand(&transport.Expand{ConceptIDs: []string{"here", "there"}, Direction: "in"})
	if err != nil || !slices.Equal(in.Neighbors[0], []string{"there"}) || len(in.Neighbors[1]) != 0 || !in.Known[0] || in.Known[1] {
		t.Fatalf("incoming %+v, %v", in, err)
	}
	// One outgoing half counts, the incoming one is counted at its source.
	if got, want := e.Stats(), (Stats{Concepts: 2, Edges: 1, Written: 3}); got != want {
		t.Fatalf("stats %+v, want %+v", got, want)
	}
	if len(e.Prepared()) != 0 {
		t.Fatal("still in doubt after the commit")
	}

	// Everything that may come late.
	doneBefore(t, do(t, e, finishOf(1, 10, 5, true))[0], a.Seq)
	doneBefore(t, do(t, e, p)[0], a.Seq)
	doneBefore(t, do(t, e, prepareOf(1, 11, 6, concept("new")))[0], a.Seq)
	doneBefore(t, do(t, e, writeOf(1, testTime+1, concept("new")))[0], a.Seq)
	refusal(t, do(t, e, finishOf(1, 10, 5, false))[0], event.KindConflict)
	unlocked(t, e, "new")
	if s := e.Stats(); s.Written != 3 {
		t.Fatalf("stats %+v: a late message was applied", s)
	}
}

func TestAbort(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("here"))
	p := prepareOf(1, 10, 5, half(transport.OpLinkOut, "here", "there"), concept("new"))
	yes(t, do(t, e, p)[0])
	if a := do(t, e, finishOf(1, 10, 5, false))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("answer %+v", a)
	}
	unlocked(t, e, "here")
	if s := e.Stats(); s.Concepts != 1 || s.Edges != 0 {
		t.Fatalf("stats %+v after an abort", s)
	}
	if a := do(t, e, finishOf(1, 10, 5, false))[0]; a.Err != nil || !a.AlreadyDone {
		t.Fatalf("answer %+v to the abort again", a)
	}
	noVote(t, do(t, e, p)[0], event.KindAborted, true)
	refusal(t, do(t, e, finishOf(1, 10, 5, true))[0], event.KindConflict)
	unlocked(t, e, "here")

	// Another attempt of the same transaction may still be committed.
	yes(t, do(t, e, prepareOf(1, 11, 6, concept("new")))[0])
	if a := do(t, e, finishOf(1, 11, 6, true))[0]; a.Err != nil {
		t.Fatalf("answer %+v", a)
	}
	// The first attempt stays refused.
	if a := do(t, e, finishOf(1, 10, 5, false))[0]; a.Err != nil || !a.AlreadyDone {
		t.Fatalf("answer %+v", a)
	}
}

func TestAbortOvertakesPrepare(t *testing.T) {
	e := newEngine(t)
	if a := do(t, e, finishOf(1, 10, 5, false))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("answer %+v to the abort of an unknown attempt", a)
	}
	noVote(t, do(t, e, prepareOf(1, 10, 5, concept("a")))[0], event.KindAborted, true)
	unlocked(t, e, "a")
}

func TestCommitOfUnknownAttemptIsReported(t *testing.T) {
	e := newEngine(t)
	refusal(t, do(t, e, finishOf(1, 10, 5, true))[0], event.KindConflict)
	yes(t, do(t, e, prepareOf(1, 11, 6, concept("a")))[0])
	refusal(t, do(t, e, finishOf(1, 10, 5, true))[0], event.KindConflict)
	locked(t, e, "a", 1)
}

func TestLocksRefuseWritesAndPrepares(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"), concept("b"))
	yes(t, do(t, e, prepareOf(1, 10, 5, half(transport.OpLinkOut, "a", "far")))[0])
	for name, op := range map[string]transport.Op{"learn": concept("a"), "source": association("a", "b", 0), "target": association("b", "a", 0),
		"out": half(transport.OpLinkOut, "a", "b"), "in": half(transport.OpLinkIn, "b", "a")} {
		t.Run(name, func(t *testing.T) {
			err := refusal(t, do(t, e, writeOf(50, issuedBy(e), concept("c"), op))[0], event.KindLocked)
			if err.Txn != id(1) || err.OpNumber != 2 {
				t.Errorf("refusal %+v does not name the holder and the op", err)
			}
		})
	}
	// Refused prepares leave nothing behind but that they are refused, and say that another attempt may do better.
	second := prepareOf(2, 20, 6, concept("c"), half(transport.OpLinkIn, "far", "a"))
	if err := noVote(t, do(t, e, second)[0], event.KindLocked, true); err.Txn != id(1) {
		t.Errorf("refusal %+v does not name the holder", err)
	}
	unlocked(t, e, "c")
	if there, _ := e.Exists("c"); there {
		t.Fatal("a refused command wrote")
	}
	// A lock refusal of a write is not its answer: the same request is proposed again.
	do(t, e, finishOf(1, 10, 5, true))
	if a := do(t, e, writeOf(50, issuedBy(e), concept("c"), concept("a")))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("answer %+v after the release", a)
	}
	noVote(t, do(t, e, second)[0], event.KindLocked, true) // its attempt stays refused
	yes(t, do(t, e, prepareOf(2, 21, 7, concept("c")))[0])

	// Another attempt while one is in doubt is busy, and so is a write of that id.
	noVote(t, do(t, e, prepareOf(2, 22, 7, concept("d")))[0], event.KindBusy, true)
	refusal(t, do(t, e, writeOf(2, testTime+2, concept("d")))[0], event.KindBusy)
	locked(t, e, "c", 2)
}

func TestLockMovesWithinOneEntry(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"))
	answers := do(t, e,
		prepareOf(1, 10, 5, concept("a")),
		writeOf(60, issuedBy(e), concept("a")),
		finishOf(1, 10, 5, true),
		writeOf(60, issuedBy(e), concept("a")),
		prepareOf(2, 20, 5, concept("a")))
	yes(t, answers[0])
	refusal(t, answers[1], event.KindLocked)
	if answers[2].Err != nil || answers[3].Err != nil {
		t.Fatalf("answers %+v", answers)
	}
	yes(t, answers[4])
	locked(t, e, "a", 2)
	if c, _, _ := e.Concept("a"); c.Version != 3 {
		t.Fatalf("version %d, want 3", c.Version)
	}
	if list := e.Prepared(); len(list) != 1 || list[0].TxnID != id(2) {
		t.Fatalf("prepared %+v", list)
	}
}

func TestPrepareChecks(t *testing.T) {
	e := newEngine(t)
	err := noVote(t, do(t, e, prepareOf(1, 10, 5, concept("a"), half(transport.OpLinkOut, "nobody", "far")))[0], event.KindPrecondition, false)
	if err.OpNumber != 2 {
		t.Errorf("op number %d, want 2", err.OpNumber)
	}
	unlocked(t, e, "a")
	noVote(t, do(t, e, prepareOf(2, 10, 5, concept("")))[0], event.KindInvalid, false)
	future := prepareOf(3, 10, 5, concept("a"))
	future.Prepare.Issued = e.LogTime() + 120_000_000
	noVote(t, do(t, e, future)[0], event.KindFromTheFuture, false)
	none := prepareOf(0, 10, 5, concept("a"))
	none.Prepare.TxnID = event.TxnID{}
	refusal(t, do(t, e, none)[0], event.KindInvalid)
	refusal(t, do(t, e, Command{Kind: Finish, Finish: &transport.Finish{}})[0], event.KindInvalid)

	// A refused single-shard write of the id is the transaction's answer.
	refusal(t, do(t, e, writeOf(4, testTime+4, association("x", "y", 0)))[0], event.KindPrecondition)
	noVote(t, do(t, e, prepareOf(4, 1, 5, concept("a")))[0], event.KindPrecondition, false)

	e.o.bounds.prepared = 1
	yes(t, do(t, e, prepareOf(5, 1, 5, concept("a")))[0])
	refusal(t, do(t, e, prepareOf(6, 1, 5, concept("b")))[0], event.KindBusy)
	yes(t, do(t, e, prepareOf(5, 1, 5, concept("a")))[0])
	e.o.bounds.attempts = e.state.attempts.Len()
	rows := e.state.attempts.Len()
	refusal(t, do(t, e, prepareOf(6, 2, 5, concept("b")))[0], event.KindBusy)
	if e.state.attempts.Len() != rows {
		t.Error("a full table took another row")
	}
}

func TestHorizon(t *testing.T) {
	e := newEngine(t)
	yes(t, do(t, e, prepareOf(1, 10, 5, concept("five")))[0])
	yes(t, do(t, e, prepareOf(2, 20, 9, concept("nine")))[0])
	do(t, e, finishOf(3, 30, 4, false)) // an attempt refused with begin 4
	yes(t, do(t, e, prepareOf(6, 60, 4, concept("six")))[0])
	commit := do(t, e, finishOf(6, 60, 4, true))[0]

	// Horizon 5: the prepared attempt that began at 5 cannot have been committed; its locks go.
	released := e.LockReleased()
	noVote(t, do(t, e, withHorizon(prepareOf(4, 40, 5, concept("four")), 5))[0], event.KindTooOld, true)
	<-released
	if got := e.Horizon(); got != (event.Position{N: 1, Seq: 5}) {
		t.Fatalf("horizon %v", got)
	}
	unlocked(t, e, "five")
	locked(t, e, "nine", 2)
	if n := e.state.attempts.Len(); n != 0 {
		t.Fatalf("%d attempt records above the horizon, want none", n)
	}
	// Below the horizon a finish is acknowledged without effect, either way, and a commit is no error.
	for _, c := range []Command{finishOf(1, 10, 5, true), finishOf(3, 30, 4, false), finishOf(9, 1, 2, true), finishOf(6, 60, 4, true)} {
		if a := do(t, e, c)[0]; a.Err != nil || !a.AlreadyDone {
			t.Fatalf("answer %+v below the horizon", a)
		}
	}
	if there, _ := e.Exists("five"); there {
		t.Fatal("an attempt that the horizon had dropped was committed")
	}
	// The outcome stays when the attempt's record goes.
	doneBefore(t, do(t, e, prepareOf(6, 61, 8, concept("six")))[0], commit.Seq)

	// It never falls, and a decision that comes with a higher horizon is applied first.
	if a := do(t, e, withHorizon(finishOf(2, 20, 9, true), 12))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("answer %+v", a)
	}
	if there, _ := e.Exists("nine"); !there {
		t.Fatal("the decided attempt was dropped by the horizon in its own decision")
	}
	yes(t, do(t, e, withHorizon(prepareOf(7, 70, 13, concept("seven")), 3))[0])
	if got := e.Horizon(); got.Seq != 12 {
		t.Fatalf("horizon %v fell", got)
	}

	// A new incarnation: older begins are refused, what is prepared under them is settled by its masters alone.
	next := prepareOf(8, 80, 1, concept("eight"))
	next.Prepare.Begin.N, next.Prepare.Horizon = 2, event.Position{N: 2, Seq: 0}
	yes(t, do(t, e, next)[0])
	locked(t, e, "seven", 7)
	noVote(t, do(t, e, prepareOf(9, 90, 99, concept("old")))[0], event.KindTooOld, true)
	if a := do(t, e, finishOf(7, 70, 13, true))[0]; a.Err != nil || a.AlreadyDone {
		t.Fatalf("answer %+v", a)
	}
	if there, _ := e.Exists("seven"); !there {
		t.Fatal("the commit under an older incarnation was not applied")
	}
}

func TestCommitIsKnownAfterItsOutcomeWasForgotten(t *testing.T) {
	e := newEngine(t)
	yes(t, do(t, e, prepareOf(1, 10, 5, concept("a")))[0])
	commit := do(t, e, finishOf(1, 10, 5, true))[0]
	late := entryAt(t, e.Applied()+1)
	late.Time += 601_000_000
	e.Apply([]raftgroup.Entry{late})
	if n := e.state.outcomes.Len(); n != 0 {
		t.Fatalf("%d outcomes after ten minutes", n)
	}
	doneBefore(t, do(t, e, finishOf(1, 10, 5, true))[0], commit.Seq)
	doneBefore(t, do(t, e, prepareOf(1, 10, 5, concept("a")))[0], commit.Seq)
	noVote(t, do(t, e, prepareOf(1, 11, 6, concept("a")))[0], event.KindExpired, false)
}

func TestLocksSurviveRestartAndSnapshot(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	write(t, e, concept("a"))
	yes(t, do(t, e, prepareOf(1, 10, 5, half(transport.OpLinkOut, "a", "far"), concept("b")))[0])
	do(t, e, withHorizon(finishOf(2, 20, 6, false), 3))
	want := e.Prepared()
	mustClose(t, e)

	e = mustOpen(t, testOptions(t, fs))
	defer func() { mustClose(t, e) }()
	other := mustOpen(t, testOptions(t, vfs.NewMem()))
	defer func() { mustClose(t, other) }()
	if err := other.Restore(bytes.NewReader(snapshotOf(t, e))); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*Engine{"reopened": e, "restored": other} {
		t.Run(name, func(t *testing.T) {
			locked(t, e, "a", 1)
			locked(t, e, "b", 1)
			got := e.Prepared()
			if len(got) != 1 || got[0].Since != want[0].Since || got[0].Start != want[0].Start || got[0].Begin != want[0].Begin {
				t.Fatalf("prepared %+v, want %+v", got, want)
			}
			if e.Horizon().Seq != 3 {
				t.Fatalf("horizon %v", e.Horizon())
			}
			refusal(t, do(t, e, writeOf(9, issuedBy(e), concept("b")))[0], event.KindLocked)
			noVote(t, do(t, e, prepareOf(2, 20, 6, concept("c")))[0], event.KindAborted, true)
			if a := do(t, e, finishOf(1, 10, 5, true))[0]; a.Err != nil || a.AlreadyDone {
				t.Fatalf("answer %+v", a)
			}
			if got := targets(t, e, "a"); !slices.Equal(got, []string{"far"}) {
				t.Fatalf("targets %v", got)
			}
			unlocked(t, e, "b")
		})
	}
	if digestOf(t, e) != digestOf(t, other) {
		t.Fatal("the two replicas differ")
	}
}
