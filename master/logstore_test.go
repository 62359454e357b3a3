package master

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestLogStores: one grid, a master with each kind of log. What a directory was made with it keeps, said or not; another choice
// is refused and changes nothing.
func TestLogStores(t *testing.T) {
	made := map[event.MasterID]raftgroup.LogStore{"master-1": "", "master-2": raftgroup.BoltDB, "master-3": raftgroup.WAL}
	asked := made
	c := newCluster(t, func(cfg *Config) { cfg.Raft.LogStore = asked[cfg.ID] })
	c.start(c.ids()...)
	leader, _ := c.leader()
	must[transport.RegisterAgentOk](c, leader, registration(1))
	c.stop(c.ids()...)
	check := func() {
		t.Helper()
		for id, kind := range made {
			for _, p := range []struct {
				path string
				want bool
			}{{"log.db", kind == raftgroup.BoltDB}, {"wal", kind != raftgroup.BoltDB}} {
				if there, err := datadir.Exists(filepath.Join(c.root, string(id), disk.RaftDir, p.path)); err != nil || there != p.want {
					t.Errorf("%s with %q: %s is there: %v, %v", id, kind, p.path, there, err)
				}
			}
		}
	}
	check()

	for id, other := range map[event.MasterID]raftgroup.LogStore{"master-1": raftgroup.BoltDB, "master-2": raftgroup.WAL} {
		cfg := c.config(id)
		cfg.Raft.LogStore = other
		want := map[raftgroup.LogStore]string{raftgroup.BoltDB: "kept in wal, not in boltdb", raftgroup.WAL: "kept in boltdb, not in wal"}[other]
		if err := c.refused(cfg); !strings.Contains(err.Error(), want) {
			t.Errorf("%s asked for %s is refused with %v; want %q", id, other, err, want)
		}
	}
	check()

	asked = map[event.MasterID]raftgroup.LogStore{"master-3": raftgroup.WAL} // the others as the directory says
	c.start(c.ids()...)
	leader, _ = c.leader()
	must[transport.RegisterAgentOk](c, leader, registration(2))
	for _, id := range c.ids() {
		c.feed(id, 1, until(event.TypeAgentRegistered, 2))
	}
	c.stop("master-3") // the quorum is one of each
	leader, _ = c.leader()
	must[transport.RegisterAgentOk](c, leader, registration(3))
	c.stop("master-1", "master-2")
	check()
}
