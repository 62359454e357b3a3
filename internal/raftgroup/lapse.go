package raftgroup

import (
	"time"

	"github.com/hashicorp/raft"
)

// maxHeld bounds the pre-votes that wait here; a candidate asks again after its own time-out.
const maxHeld = 16

// lapse decides when a follower stops protecting its leader. raft refuses every candidate until the follower's own random
// time-out has run out too, so a fail-over waits for the later of two of them, and a refused candidate for a third before it
// asks again: 0.9 s have been seen. Here a follower that has heard nothing from its leader for a fixed time lets others be
// elected (the minimum election time-out of the Raft thesis, 4.2.3), and a candidate that asks a little earlier waits for its
// answer instead of being refused.
//
// The fixed time is longer than the shortest time-out, so that a short pause of the leader still needs two to agree on it.
// Term, log and configuration are raft's to judge, as before: nobody is granted a vote who would not be granted it a moment
// later.
type lapse struct {
	peers *peers
	after time.Duration
	held  int // pump's alone
	free  chan struct{}
}

// left is how long this replica still protects its leader; 0 when it does not, or has none.
func (l *lapse) left() time.Duration {
	r := l.peers.raft.Load()
	if _, leader := r.LeaderWithID(); leader == "" || r.State() != raft.Follower {
		return 0
	}
	return max(l.after-time.Since(r.LastContact()), 0)
}

// hold keeps a pre-vote until the leader has been silent for long enough, or was heard.
func (l *lapse) hold(rpc raft.RPC) bool {
	if _, ok := rpc.Command.(*raft.RequestPreVoteRequest); !ok {
		return false
	}
	wait := l.left()
	contact := l.peers.raft.Load().LastContact()
	// A candidate has waited at least one heartbeat time-out itself; whose leader is that much alive here, is refused at once.
	if wait == 0 || wait > l.after/2 || !l.room() {
		return false
	}
	l.peers.pumped.Go(func() {
		defer func() { l.free <- struct{}{} }()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.peers.done:
			return
		}
		if l.peers.raft.Load().LastContact().Equal(contact) {
			rpc = l.admit(rpc)
		}
		l.peers.toMainLoop(rpc)
	})
	return true
}

// room takes a place for a pre-vote to wait in.
func (l *lapse) room() bool {
	for {
		select {
		case <-l.free:
			l.held--
			continue
		default:
		}
		if l.held == maxHeld {
			return false
		}
		l.held++
		return true
	}
}

// admit lets a candidate pass raft's check for a leader when that has lapsed. raft lets two candidates pass: the one whose
// address is the leader's, and the one to whom leadership is being handed.
func (l *lapse) admit(rpc raft.RPC) raft.RPC {
	switch req := rpc.Command.(type) {
	case *raft.RequestPreVoteRequest:
		if l.left() > 0 {
			return rpc
		}
		if leader, _ := l.peers.raft.Load().LeaderWithID(); leader != "" {
			as := *req
			as.Addr = l.peers.EncodePeer(raft.ServerID(leader), leader)
			rpc.Command = &as
		}
	case *raft.RequestVoteRequest:
		if l.left() == 0 && l.peers.raft.Load().State() == raft.Follower {
			as := *req
			as.LeadershipTransfer = true
			rpc.Command = &as
		}
	}
	return rpc
}
