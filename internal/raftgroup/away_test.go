package raftgroup

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// A follower that was away for a minute has what it missed within half a second (virtual time), as entries or as a snapshot, and
// however often it was away before. raft alone lets it wait for up to 10.24 s.
func TestLongAbsence(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, transport.NewMemory(), 3)
				for _, n := range c.nodes {
					n.tune = func(cfg *Config) { cfg.TrailingLogs = maxOutstanding + 1 }
				}
				c.start()
				defer c.stop()
				l := c.leader()
				f := c.others(l)[0]
				f.wait(l.must("a").Index)
				for _, gone := range []time.Duration{time.Minute, 7 * time.Minute, time.Second} {
					f.stop()
					for range 3 * maxOutstanding {
						l.must("b")
					}
					if snapshot {
						if err := l.group.Snapshot(); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(gone)
					f.start()
					begun := time.Now()
					f.wait(l.must("c").Index)
					took := time.Since(begun)
					t.Logf("after %v away: %v", gone, took)
					if took > 500*time.Millisecond {
						t.Errorf("after %v away it had the entries %v after it started", gone, took)
					}
					if (f.fsm.restores > 0) != snapshot {
						t.Fatalf("%d snapshots taken: the test shows something else", f.fsm.restores)
					}
				}
			})
		})
	}
}

// Nobody goes on trying to reach a replica that was removed while it was away, or in a term that is over.
func TestAbsenceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 4)
		dialed := c.wire.count()
		c.start()
		defer c.stop()
		l := c.leader()
		gone, next := c.others(l)[0], c.others(l)[1]
		gone.stop()
		l.must("a")
		time.Sleep(time.Minute)
		index, _ := l.group.Configuration()
		if _, err := l.group.Remove(context.Background(), gone.id, index); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		undialed(t, dialed, ">"+gone.owner)

		away := c.others(l)[2]
		away.stop()
		l.must("b")
		time.Sleep(time.Minute)
		if err := l.group.TransferTo(context.Background(), next.id); err != nil {
			t.Fatal(err)
		}
		c.leader(l).must("c")
		time.Sleep(time.Second)
		undialed(t, dialed, l.owner+">"+away.owner)
	})
}

// undialed checks that a link is not dialed for ten seconds.
func undialed(t *testing.T, dialed func(string) int, link string) {
	t.Helper()
	before := dialed(link)
	if before == 0 {
		t.Fatalf("%s was never dialed: this shows nothing", link)
	}
	time.Sleep(10 * time.Second)
	if n := dialed(link) - before; n > 0 {
		t.Errorf("%s is dialed on: %d times in 10 s", link, n)
	}
}

// count counts from now on how often links are dialed; links are asked for by the end of their name.
func (w *wire) count() func(link string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialed = map[string]int{}
	return func(link string) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		n := 0
		for name, times := range w.dialed {
			if strings.HasSuffix(name, link) {
				n += times
			}
		}
		return n
	}
}
