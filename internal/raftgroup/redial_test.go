package raftgroup

import (
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestDeadPooledConnections: what raft asks after all connections kept for a replica have died, as they do when its process
// restarts, gets an answer.
func TestDeadPooledConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 3).start()
		defer c.stop()
		l := c.leader()
		follower := c.others(l)[0]
		l.wait(l.must("a").Index)
		for _, ask := range []struct {
			what string
			run  func(from *peers) error
		}{
			{"a vote", func(from *peers) error {
				return from.RequestVote(raft.ServerID(l.id), raft.ServerAddress(l.id), &raft.RequestVoteRequest{RPCHeader: header(follower), Term: 1}, &raft.RequestVoteResponse{})
			}},
			{"a pre-vote", func(from *peers) error {
				return from.RequestPreVote(raft.ServerID(l.id), raft.ServerAddress(l.id), &raft.RequestPreVoteRequest{RPCHeader: header(follower), Term: 1}, &raft.RequestPreVoteResponse{})
			}},
			{"entries", func(from *peers) error {
				return from.AppendEntries(raft.ServerID(l.id), raft.ServerAddress(l.id), &raft.AppendEntriesRequest{RPCHeader: header(follower), Term: 1}, &raft.AppendEntriesResponse{})
			}},
		} {
			from := follower.group.peers
			if err := ask.run(from); err != nil { // from here on a connection is kept
				t.Fatalf("%s: %v", ask.what, err)
			}
			c.wire.drop(follower.owner + ">" + l.owner)
			synctest.Wait()
			if err := ask.run(from); err != nil {
				t.Errorf("%s over a connection that had died: %v", ask.what, err)
			}
		}
		leader, other := l.group.peers, c.others(l)[1]
		c.wire.drop(l.owner + ">" + other.owner)
		if err := leader.TimeoutNow(raft.ServerID(other.id), raft.ServerAddress(other.id), &raft.TimeoutNowRequest{RPCHeader: header(l)}, &raft.TimeoutNowResponse{}); err != nil {
			t.Errorf("TimeoutNow over a connection that had died: %v", err)
		}
		next := c.leader(l)
		if err := leader.TimeoutNow(raft.ServerID(next.id), raft.ServerAddress(next.id), &raft.TimeoutNowRequest{RPCHeader: header(l)}, &raft.TimeoutNowResponse{}); err == nil {
			t.Error("TimeoutNow to a leader was accepted: one that arrives twice would depose it")
		}
	})
}

func header(n *node) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.id), Addr: []byte(n.id)}
}

// drop ends the connections of a link; new ones can be made.
func (w *wire) drop(link string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutLocked(link, false)
}
