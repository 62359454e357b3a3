package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// TestMarkers: what differs once is installed anew, what differs twice within an hour stays out, and the record survives.
func TestMarkers(t *testing.T) {
	dir, err := datadir.Lock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	now := time.Date(2026, 10, 18, 2, 20, 0, 0, time.UTC)
	m := &markers{dir: dir, now: func() time.Time { return now }}
	check := event.StateChecked{AtIndex: 2048, AtSeq: 99, Agree: []event.ReplicaID{"master-2.b"}}
	for _, step := range []struct {
		after time.Duration
		out   bool
	}{{0, false}, {time.Hour + time.Minute, false}, {59 * time.Minute, true}, {time.Minute, true}, {2 * time.Hour, false}, {-90 * time.Minute, false}} {
		now = now.Add(step.after)
		if err := m.Mark(check); err != nil {
			t.Fatal(err)
		}
		r, err := m.Read()
		if err != nil || !r.Pending || r.AtIndex != 2048 || len(r.Agree) != 1 {
			t.Fatalf("marked: %+v, %v", r, err)
		}
		if why := r.tooOften(now); (why != nil) != step.out {
			t.Errorf("after %s: %v", step.after, why)
		}
		if err := m.Done(); err != nil {
			t.Fatal(err)
		}
		if r, err := m.Read(); err != nil || r.Pending || len(r.Marked) == 0 {
			t.Errorf("done: %+v, %v", r, err)
		}
	}
	if err := os.WriteFile(dir.Path(reinstallFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(); err == nil || m.Mark(check) == nil {
		t.Error("a damaged record was read as none")
	}
}

// TestStaysOut: a directory whose state has differed twice within an hour is not served from, and one whose peers do not give
// theirs is not either.
func TestStaysOut(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	_, followers := c.leader()
	odd := followers[0]
	c.stop(odd)
	open := func(marks int, want string) {
		t.Helper()
		cfg := c.config(odd)
		dir, err := datadir.Lock(cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for range marks {
			err = (&markers{dir: dir, now: time.Now}).Mark(event.StateChecked{AtIndex: 1024, Agree: []event.ReplicaID{"master-9.x"}})
		}
		if err != nil || dir.Close() != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		m, err := Open(ctx, cfg)
		if err == nil {
			err = m.Close()
			t.Fatalf("opened; closed with %v", err)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	open(1, "nobody knows where master-9.x listens")
	open(1, "it stays out")
}

// TestReinstallFindsMastersThatMoved: the others have moved since this master's list was written. It has followed them, and when its
// state differs it remembers where they are.
func TestReinstallFindsMastersThatMoved(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	c.feed(leader, 1, until(event.TypeMasterJoined, 3))
	odd := followers[0]
	old := c.peers
	c.lists[odd] = old
	for _, id := range c.ids() {
		if id != odd {
			c.stop(id)
			c.peers = relisted(c.peers, "new-", id)
			c.start(id)
			c.recorded(odd, id, at(c.peer(id)))
		}
	}
	var agree []event.ReplicaID
	for id, m := range c.up {
		if id != odd {
			agree = append(agree, m.core.founding.Replica)
		}
	}
	c.up[odd].core.service.Differ(event.StateChecked{AtIndex: 1024, AtSeq: 9, Agree: agree})
	if err := c.ended(odd); !errors.Is(err, ErrReinstall) {
		t.Fatalf("it ended with %v", err)
	}
	c.start(odd)
	c.recorded(odd, odd, at(c.peer(odd)))
	data, err := os.ReadFile(filepath.Join(c.root, string(odd), reinstallFile))
	if r := decode[reinstallRecord](t, data); err != nil || r.Pending || len(r.Marked) != 1 {
		t.Errorf("its record is %+v, %v", r, err)
	}
}

// TestReinstallAddresses: what was known last comes first, the list is tried too, and nothing twice.
func TestReinstallAddresses(t *testing.T) {
	listed := Peers{{ID: "m1", Raft: "a:1"}, {ID: "m2", Raft: "b:1"}}
	r := reinstallRecord{Known: []knownMaster{{"m1", "c:1"}, {"m2", "b:1"}, {"m1", "d:1"}, {"m1", "c:1"}}}
	for id, want := range map[event.MasterID]string{"m1": "[c:1 d:1 a:1]", "m2": "[b:1]", "m3": "[]"} {
		if got := fmt.Sprint(r.addresses(id, listed)); got != want {
			t.Errorf("%s is looked for at %s, want %s", id, got, want)
		}
	}
}
