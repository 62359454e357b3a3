package raftgroup

import (
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

// maxPool is how many idle connections to one replica raft's transport keeps.
const maxPool = 3

// dialError is a failure to open a connection: nobody is there, or nobody who lets this replica in.
type dialError struct{ error }

// Unwrap gives the cause.
func (e dialError) Unwrap() error { return e.error }

// again repeats a request that failed on a connection from the transport's pool. After a replica's restart all those kept for
// it are dead, which is noticed only by using them, and each costs a request: a lost vote costs an election time-out, a lost
// AppendEntries a pause, a lost TimeoutNow the hand-over. A failure to connect is final, and so is one that took long.
//
// All requests that go through here may arrive twice: votes and entries are idempotent, and TimeoutNow is refused by who is
// a candidate already (peers.entitled).
func (p *peers) again(run func() error) error {
	for attempt := 0; ; attempt++ {
		begun := time.Now()
		err := run()
		var unreached dialError
		if err == nil || attempt == maxPool || errors.As(err, &unreached) || time.Since(begun) > p.prompt {
			return err
		}
	}
}

// RequestVote implements raft.Transport.
func (p *peers) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return p.again(func() error { return p.NetworkTransport.RequestVote(id, target, req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (p *peers) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return p.again(func() error { return p.NetworkTransport.RequestPreVote(id, target, req, resp) })
}

// TimeoutNow implements raft.Transport.
func (p *peers) TimeoutNow(id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return p.again(func() error { return p.NetworkTransport.TimeoutNow(id, target, req, resp) })
}
