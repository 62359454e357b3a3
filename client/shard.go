package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Consistency levels of a read.
const (
	Linearizable = "linearizable" // the shard's leader, after it confirmed that it leads
	Stale        = "stale"        // any replica
)

// answerGrace is how much longer than the node we wait for its answer, so that what it says at its deadline reaches us.
const answerGrace = 250 * time.Millisecond

// attemptLimit bounds one attempt at one node, so that a node that hangs costs this much and not the caller's deadline.
// Below it a slow answer is waited for; a write's retry carries its request id and cannot apply twice.
const attemptLimit = 5 * time.Second

// manyReplicas is more than a shard has.
const manyReplicas = 1 << 16

// mapRefresh is how long a request waits for the newer map a node told it of, before it tries again all the same.
const mapRefresh = time.Second

// ShardRequest is a request for one shard. A write has a RequestID and Issued (unix µs), made once before its first attempt.
type ShardRequest struct {
	RequestID   event.RequestID
	Issued      int64
	Consistency string // of a read: "" is Linearizable
	Request     any
}

// Shard sends a request to a shard's leader (to any replica when the read may be stale), follows hints, and retries with
// the same request id as long as ctx allows. It is the one place of the retry policy for shards. Errors are *event.Error;
// when an earlier attempt may have taken effect and no later one settled it, the kind is KindUnknownOutcome.
func (c *Client) Shard(ctx context.Context, id event.ShardID, req ShardRequest) (*transport.RoutedOk, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	call := &shardCall{client: c, shard: id, req: req}
	for {
		reply, err := call.attempt(ctx)
		if err == nil {
			return reply, nil
		}
		if err := call.next(ctx, err); err != nil {
			return nil, err
		}
	}
}

// shardCall is the state of one request over its attempts.
type shardCall struct {
	client  *Client
	shard   event.ShardID
	req     ShardRequest
	backoff transport.Backoff
	hint    event.NodeID // who leads, as a replica just said
	turn    int          // rotates over the replicas while nobody is known to lead
	away    int          // replicas in a row that could not be reached
	unknown bool         // an attempt may have taken effect
	epoch   event.Position
}

func (s *shardCall) attempt(ctx context.Context) (*transport.RoutedOk, error) {
	m, err := s.client.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	s.epoch = m.Epoch
	shard, ok := m.ByID(s.shard)
	if !ok {
		return nil, &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf("there is no shard %s at epoch %d", s.shard, m.Epoch.Seq)}
	}
	if s.client.masters != nil && forwardable(s.req.Request) && s.away >= max(len(endpoints(shard, "")), 1) {
		s.away = 0
		if ok, err := s.forward(ctx); err == nil || !s.goesOn(err) {
			return ok, err
		}
	}
	addr, err := s.target(shard)
	if err != nil {
		return nil, err
	}
	q, limit := s.routed(ctx, attemptLimit)
	ctx, cancel := context.WithTimeout(ctx, limit+answerGrace)
	defer cancel()
	reply, err := s.send(ctx, addr, q)
	if err != nil {
		return nil, err
	}
	return routedOk(addr, reply)
}

// routed is the request for one attempt of at most limit, and how long it may take: no longer than ctx.
func (s *shardCall) routed(ctx context.Context, limit time.Duration) (*transport.Routed, time.Duration) {
	deadline, _ := ctx.Deadline() // withDeadline has seen to it that there is one
	limit = min(limit, time.Until(deadline))
	return &transport.Routed{ShardID: s.shard, Epoch: s.epoch, RequestID: s.req.RequestID, Issued: s.req.Issued,
		Consistency: s.req.Consistency, TimeoutMillis: uint32(max(limit.Milliseconds(), 1)), Request: transport.Any{Value: s.req.Request}}, limit
}

func routedOk(addr string, reply any) (*transport.RoutedOk, error) {
	ok, isRouted := reply.(*transport.RoutedOk)
	if !isRouted {
		return nil, &event.Error{Kind: event.KindInternal, Message: fmt.Sprintf("%s answered Routed with %s", addr, transport.VariantName(reply))}
	}
	return ok, nil
}

// forward has any master send the request on, for a client that reaches none of the shard's replicas itself: they may be in another
// network, or at addresses that its map does not have yet. The request keeps its id. It takes at most half of the time left, as
// the replicas may come back.
func (s *shardCall) forward(ctx context.Context) (*transport.RoutedOk, error) {
	deadline, _ := ctx.Deadline()
	q, limit := s.routed(ctx, min(attemptLimit, time.Until(deadline)/2))
	ctx, cancel := context.WithTimeout(ctx, limit+answerGrace)
	defer cancel()
	reply, err := s.client.masters.Call(ctx, q)
	if err != nil {
		return nil, err
	}
	return routedOk("a master", reply)
}

// goesOn tells whether a master that was to send the request on surely did nothing: it cannot be reached, reaches the shard no
// better, or is of a version that does not do this.
func (s *shardCall) goesOn(err error) bool {
	switch wireError(err).Kind {
	case event.KindUnavailable, event.KindUnsupported:
		return true
	case event.KindDeadline, event.KindUnknownOutcome:
		return transport.ReadOnly(s.req.Request)
	}
	return false
}

// forwardable tells whether masters send a request on: what clients ask of a shard, and not what belongs to two-phase commit or to
// nodes among themselves.
func forwardable(req any) bool {
	switch req.(type) {
	case *transport.LearnConcept, *transport.LearnAssociation, *transport.DeleteConcept, *transport.DeleteAssociation, *transport.Write, *transport.Flush:
		return true
	case *transport.OpenCheckpoint, *transport.ReadCheckpoint, *transport.CloseCheckpoint, *transport.ShardLevel, *transport.IsMember:
		return false
	}
	return transport.ReadOnly(req)
}

// Forward answers a request that another client could not bring to its shard. Requests that no client sends are refused.
func (c *Client) Forward(ctx context.Context, q *transport.Routed) (*transport.RoutedOk, error) {
	if err := transport.Validate(q, 0); err != nil {
		return nil, err
	}
	if !forwardable(q.Request.Value) {
		return nil, &event.Error{Kind: event.KindUnsupported, Message: transport.VariantName(q.Request.Value) + " is not sent on by masters"}
	}
	return c.Shard(ctx, q.ShardID, ShardRequest{RequestID: q.RequestID, Issued: q.Issued, Consistency: q.Consistency, Request: q.Request.Value})
}

// target is the address to try: the hinted or recorded leader, or the replicas in turn; of a stale read one that has been quick.
func (s *shardCall) target(shard *shardmap.Shard) (string, error) {
	voters := endpoints(shard, "")
	if s.req.Consistency == Stale && len(voters) > 0 {
		return s.client.latencies.quicker(voters, s.client.random), nil
	}
	leader := shard.Leader
	if s.hint != "" {
		leader = s.hint
	}
	if s.turn == 0 {
		if r, ok := shard.Replica(leader); ok && r.Endpoint != "" {
			return r.Endpoint, nil
		}
	}
	for i := range shard.Replicas {
		r := shard.Replicas[(s.turn+i)%len(shard.Replicas)]
		if r.Endpoint != "" && r.Role == shardmap.Voter {
			return r.Endpoint, nil
		}
	}
	return "", &event.Error{Kind: event.KindUnavailable, Op: "find a replica", Message: fmt.Sprintf("no node of %s has an address yet", s.shard)}
}

// reaction is what to do about an error.
type reaction byte

const (
	giveUp  reaction = iota // the answer is final
	follow                  // somebody else leads: go there at once if he is named
	rotate                  // this node cannot be reached: try the next
	refresh                 // the map is old: wait for a newer one
	again                   // the same node, a little later
	settle                  // it may have happened: ask again with the same request id, or report it as unknown
)

// reactionTo is the retry table.
func reactionTo(kind event.Kind) reaction {
	switch kind {
	case event.KindNotLeader:
		return follow
	case event.KindUnavailable:
		return rotate
	case event.KindWrongShard, event.KindOldIncarnation:
		return refresh
	case event.KindBusy, event.KindMoving, event.KindLocked:
		return again
	case event.KindUnknownOutcome, event.KindDeadline:
		return settle
	}
	return giveUp
}

// next prepares the next attempt, or returns the error that ends the call.
func (s *shardCall) next(ctx context.Context, err error) error {
	var e *event.Error
	if !errors.As(err, &e) {
		e = &event.Error{Kind: event.KindInternal, Message: err.Error()}
	}
	act := reactionTo(e.Kind)
	if act == settle {
		s.unknown = s.unknown || !transport.ReadOnly(s.req.Request)
		if !s.repeatable() {
			return s.failed(e)
		}
		act = rotate
		if e.Kind == event.KindDeadline {
			s.away = manyReplicas // there is no time to ask all of them before a master is
		}
	}
	if act == giveUp {
		return e
	}
	if ctx.Err() != nil {
		return s.failed(e)
	}
	wait := time.Duration(e.RetryAfterMillis) * time.Millisecond
	switch act {
	case follow:
		s.away = 0
		known := s.hint
		s.hint, s.turn = event.NodeID(event.ReplicaID(e.Leader).Owner()), s.turn+1 // a node's id, or a replica's
		if s.hint != "" && s.hint != known {
			s.turn = 0
			return nil
		}
	case rotate:
		s.hint, s.turn = "", s.turn+1
		if e.Kind == event.KindUnavailable {
			s.away++
		}
	case refresh:
		s.awaitMap(ctx, e.Epoch)
	}
	if s.backoff.Wait(ctx, wait) != nil {
		return s.failed(e)
	}
	return nil
}

func (s *shardCall) repeatable() bool {
	return transport.ReadOnly(s.req.Request) || !s.req.RequestID.IsZero() || transport.Retryable(s.req.Request)
}

// awaitMap waits a moment for the map the node spoke of; what is newer is found by the next attempt.
func (s *shardCall) awaitMap(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, mapRefresh)
	defer cancel()
	if seq > s.epoch.Seq {
		_ = s.client.maps.WaitNewer(ctx, event.Position{N: s.epoch.N, Seq: seq - 1}) // a time-out only means: try with what there is
	}
}

// failed is the error of a call that ran out of time or of safe retries.
func (s *shardCall) failed(last *event.Error) error {
	op := fmt.Sprintf("%s on %s", transport.VariantName(s.req.Request), s.shard)
	if s.unknown {
		return &event.Error{Kind: event.KindUnknownOutcome, Op: op,
			Message: "the outcome is unknown: it was sent, and no answer came before the deadline; the same request id gives it; last: " + last.Error()}
	}
	if last.Kind == event.KindInDoubt || last.Kind == event.KindLocked || last.Kind == event.KindBusy {
		return last
	}
	return &event.Error{Kind: event.KindUnavailable, Op: op, Message: fmt.Sprintf("%s did not answer before the deadline; last: %s", s.shard, last.Error())}
}
