package raftgroup

import (
	"errors"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// away holds back the news that a replica cannot be reached until its heartbeats are answered again. raft waits behind each
// failure, twice as long every time and in the end 10.24 s, and nothing cuts that short: a replica that was away for a minute
// would hear its leader at once and wait that long for its first entry. Held back, an absence of any length is one failure, and
// the first entry follows the first heartbeat, which raft goes on sending every half time-out.
//
// Invariants: only a failure to connect is held back, so nothing of the request has left; a replica that answers heartbeats
// and still cannot be reached is raft's to wait for; nothing is held back for a term that is over, or a replica that is no member.
type away struct {
	peers *peers
	mu    sync.Mutex
	beats map[raft.ServerID]*broadcast // guarded by mu; who waits for a replica's heartbeats
}

// of is announced when waiting for a replica is over.
func (a *away) of(id raft.ServerID) *broadcast {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.beats[id] == nil {
		a.beats[id] = &broadcast{}
	}
	return a.beats[id]
}

// hold runs a request that is no heartbeat, and returns its failure to connect when there is reason to try again.
func (a *away) hold(id raft.ServerID, term uint64, run func() error) error {
	beat := a.of(id).next()
	err := run()
	var unreached dialError
	if !errors.As(err, &unreached) || !a.concerns(id, term) {
		return err
	}
	select {
	case <-beat:
	case <-a.peers.done:
	}
	return err
}

// beaten takes the outcome of a heartbeat.
func (a *away) beaten(id raft.ServerID, term uint64, err error) {
	if err == nil || !a.concerns(id, term) {
		a.of(id).announce()
	}
}

// concerns tells whether a replica is this leader's to reach. When that ends, raft's heartbeats go on until nobody waits.
func (a *away) concerns(id raft.ServerID, term uint64) bool {
	r := a.peers.raft.Load()
	if r == nil { // it has just been started
		return true
	}
	return r.State() == raft.Leader && r.CurrentTerm() == term &&
		slices.ContainsFunc(a.peers.servers(), func(s raft.Server) bool { return s.ID == id })
}

// isHeartbeat tells whether a request is one of those that raft sends beside the replication.
func isHeartbeat(r *raft.AppendEntriesRequest) bool {
	return len(r.Entries) == 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && r.LeaderCommitIndex == 0
}
