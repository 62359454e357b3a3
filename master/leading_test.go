package master

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// throne is a leadership that tests change.
type throne struct {
	signal
	mu     sync.Mutex
	leader event.ReplicaID
}

func (t *throne) Leader() (event.ReplicaID, uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leader, 1, t.leader != ""
}

func (t *throne) LeaderChanged() <-chan struct{} { return t.Changed() }

func (t *throne) set(leader event.ReplicaID) {
	t.mu.Lock()
	t.leader = leader
	t.mu.Unlock()
	t.Broadcast()
}

func newThrone(t *testing.T, leader event.ReplicaID) (*throne, *leading) {
	peers, err := ParsePeers("m1=h:1/2/3,m2=h:4/5/6,m3=h:7/8/9")
	if err != nil {
		t.Fatal(err)
	}
	th := &throne{leader: leader}
	return th, &leading{self: "m1", find: func(id event.ReplicaID) (Peer, bool) { return peers.Find(event.MasterID(id.Owner())) }, group: th, limit: 5 * time.Second}
}

func failed(kind event.Kind) error { return &event.Error{Kind: kind, Message: string(kind)} }

// TestLeadingRetries: what surely was not done is tried again; what may have been, only when that is safe; an answer never.
func TestLeadingRetries(t *testing.T) {
	for _, tt := range []struct {
		name  string
		safe  bool
		errs  []error // of the attempts in turn; the last repeats
		want  event.Kind
		tries int // 0: any number
	}{
		{"done", false, []error{nil}, "", 1},
		{"not done, then done", false, []error{failed(event.KindNotLeader), failed(event.KindUnavailable), nil}, "", 3},
		{"refused", true, []error{failed(event.KindConflict)}, event.KindConflict, 1},
		{"open and unsafe", false, []error{failed(event.KindUnknownOutcome)}, event.KindUnknownOutcome, 1},
		{"open and safe, then done", true, []error{failed(event.KindUnknownOutcome), nil}, "", 2},
		{"open, then not done for ever, stays open", true, []error{failed(event.KindDeadline), failed(event.KindUnavailable)}, event.KindUnknownOutcome, 0},
		{"not done for ever", true, []error{failed(event.KindUnavailable)}, event.KindUnavailable, 0},
		{"an error without a kind may hide anything", false, []error{errors.New("what")}, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, l := newThrone(t, "m2.x")
				tries := 0
				err := l.Do(t.Context(), errand{what: "test", safe: tt.safe, remote: func(_ context.Context, address string) error {
					if address != "h:6" {
						t.Errorf("asked %s", address)
					}
					tries++
					return tt.errs[min(tries, len(tt.errs))-1]
				}})
				if kindOf(err) != tt.want || (err == nil) != (tt.errs[min(tries, len(tt.errs))-1] == nil) {
					t.Errorf("got %v, want kind %q", err, tt.want)
				}
				if tt.tries != 0 && tries != tt.tries || tries == 0 {
					t.Errorf("%d tries, want %d", tries, tt.tries)
				}
			})
		})
	}
}

func TestLeadingHoldsUntilThereIsALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th, l := newThrone(t, "")
		done := make(chan error, 1)
		go func() {
			done <- l.Do(t.Context(), errand{what: "test", local: func(context.Context) error { return nil }})
		}()
		time.Sleep(4 * time.Second)
		th.set("m1.x")
		begin := time.Now()
		if err := <-done; err != nil || time.Since(begin) > 0 {
			t.Errorf("%v after %v, want at once", err, time.Since(begin))
		}
	})
}

// TestLeadingLeavesAHangingLeader: a leader that does not answer and leads no more does not hold the request.
func TestLeadingLeavesAHangingLeader(t *testing.T) {
	for _, safe := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			th, l := newThrone(t, "m2.x")
			done := make(chan error, 1)
			go func() {
				done <- l.Do(t.Context(), errand{what: "test", safe: safe, local: func(context.Context) error { return nil },
					remote: func(ctx context.Context, _ string) error {
						<-ctx.Done()
						return failed(event.KindUnknownOutcome)
					}})
			}()
			time.Sleep(time.Second)
			th.set("m1.x")
			begin := time.Now()
			err := <-done
			if took := time.Since(begin); safe && (err != nil || took > lastPause*2) || !safe && (kindOf(err) != event.KindUnknownOutcome || took != 4*time.Second) {
				t.Errorf("safe %v: %v after %v", safe, err, took)
			}
		})
	}
}

// TestRoundsStartAfterTheirReaders: no reader gets an answer to a question that was sent before it came.
func TestRoundsStartAfterTheirReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked uint64
		r := &rounds{next: map[readRound]*round{}, asking: map[readRound]bool{},
			ask: func(context.Context, readRound) (*transport.ReadIndexOk, error) {
				asked++
				ok := &transport.ReadIndexOk{Index: uint64(time.Since(time.Unix(0, 0)))} // when it was sent
				time.Sleep(10 * time.Millisecond)
				return ok, nil
			}}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				came := uint64(time.Since(time.Unix(0, 0)))
				ok, err := r.join(t.Context(), readRound{address: "a"})
				if err != nil || ok.Index < came {
					t.Errorf("reader %d came at %d and got %d, %v", i, came, ok.Index, err)
				}
			})
		}
		wg.Wait()
		r.wait()
		if asked > 13 {
			t.Errorf("%d questions for readers of 100 ms, want about one every 10 ms", asked)
		}
	})
}

func TestReachJudgesContact(t *testing.T) {
	limits := DefaultConfig().Limits
	start := time.Unix(1000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	r := &reach{limits: limits}
	state := false
	var got []string
	for s := range 30 {
		c := contact{id: "m2", last: at(2), unreachable: state}
		if s >= 20 {
			c.last = at(s)
		}
		for _, e := range r.Look(at(s), []contact{c}) {
			_, state = e.(event.MasterUnreachable)
			got = append(got, e.Type().String()+"@"+at(s).Sub(start).String())
		}
	}
	if want := "master_unreachable@7s master_recovered@20s"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	late := &reach{limits: limits}
	late.Look(at(0), nil)
	if e := late.Look(at(100), []contact{{id: "m2", last: at(1)}}); len(e) != 0 {
		t.Errorf("a look that came late declared %v", e)
	}
}
