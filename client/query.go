package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// maxFanOut bounds the shards that one read asks at once. Fewer make a read of many shards slow; more only wait in the
	// same connections, and each answer on its way is memory.
	maxFanOut = 64
	// maxReasons bounds the shards whose reasons an error spells out; it names all.
	maxReasons = 8
)

// Query reads with what the caller allows (see transport.Query): stale answers, which come from the replica that has been
// quickest, and answers without the shards that do not answer, which are listed. Missing shards may mean a shorter list, no
// path, or a longer one. When no shard answers it is an error, and so is a request that a shard refuses for what it is.
func (c *Client) Query(ctx context.Context, q *transport.Query) (*transport.QueryOk, error) {
	return do[transport.QueryOk](ctx, c, q)
}

func (c *Client) query(ctx context.Context, q *transport.Query) (any, error) {
	if q.TimeoutMillis > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.TimeoutMillis)*time.Millisecond)
		defer cancel()
	}
	r := c.reading()
	r.partial, r.consistency = q.Partial, q.Consistency
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := r.answer(ctx, q.Request.Value)
	if err != nil {
		return nil, err
	}
	return r.contract(&transport.QueryOk{Reply: transport.Any{Value: reply}, Epoch: m.Epoch}), nil
}

// reading is one read: what its caller allows, and what is learnt of the shards while it runs. Its methods are safe for
// concurrent use.
type reading struct {
	*Client
	partial     bool
	consistency string // "" is Linearizable

	mu      sync.Mutex
	reads   map[event.ShardID]transport.ShardRead // guarded by mu
	missing map[event.ShardID]*event.Error        // guarded by mu; of a partial read: they are not asked again
}

// reading is a read whose caller allows nothing.
func (c *Client) reading() *reading {
	return &reading{Client: c, reads: map[event.ShardID]transport.ShardRead{}, missing: map[event.ShardID]*event.Error{}}
}

// answer answers a read.
func (r *reading) answer(ctx context.Context, req any) (any, error) {
	switch q := req.(type) {
	case *transport.QueryConcept:
		return r.one(ctx, q.ConceptID, q)
	case *transport.ReadConcept:
		return r.one(ctx, q.ConceptID, q)
	case *transport.GetNeighbors:
		return r.one(ctx, q.ConceptID, q)
	case *transport.Neighbors:
		return r.one(ctx, q.ConceptID, q)
	case *transport.GetAssociation:
		return r.one(ctx, q.SourceID, q)
	case *transport.FindPath:
		return r.findPath(ctx, q)
	case *transport.Expand:
		return r.expand(ctx, q)
	case *transport.QueryByMetadata:
		return r.queryByMetadata(ctx, q)
	case *transport.QueryBySemantic:
		return r.queryBySemantic(ctx, q)
	case *transport.FindPathSemantic, *transport.FindTemporalChain, *transport.FindCausalChain, *transport.FindContradictions:
		return r.walkSemantic(ctx, q)
	case *transport.Scan:
		return r.scan(ctx, q)
	case *transport.VectorSearch:
		return r.vectorSearch(ctx, q)
	case *transport.GetStats:
		return r.stats(ctx)
	case *transport.GetAllConceptIds:
		return r.allIDs(ctx)
	case *transport.HealthCheck:
		return r.health(ctx)
	case *transport.Embed:
		return r.embedTexts(ctx, q)
	}
	return nil, &event.Error{Kind: event.KindUnsupported, Message: fmt.Sprintf("%s is not a request of this grid", transport.VariantName(req))}
}

// one reads from the shard of a concept.
func (r *reading) one(ctx context.Context, conceptID string, req any) (any, error) {
	m, err := r.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	shard, err := m.Shard(conceptID)
	if err != nil {
		return nil, err
	}
	return r.askShard(ctx, shard.ID, req)
}

// askShard asks one shard and notes what its answer stands for.
func (r *reading) askShard(ctx context.Context, shard event.ShardID, req any) (any, error) {
	how := ShardRequest{Consistency: r.consistency, Request: req}
	if !transport.ReadOnly(req) { // a Flush
		how.RequestID, how.Issued = r.newRequest()
	}
	ok, err := r.Shard(ctx, shard, how)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, again := r.reads[shard]; !again || ok.ShardSeq < first.ShardSeq {
		r.reads[shard] = transport.ShardRead{ShardID: shard, ShardSeq: ok.ShardSeq, ReadMode: ok.ReadMode}
	}
	return ok.Reply.Value, nil
}

// part is r.askShard with the reply's type checked.
func part[T any](ctx context.Context, r *reading, shard event.ShardID, req any) (*T, error) {
	reply, err := r.askShard(ctx, shard, req)
	if err != nil {
		return nil, err
	}
	return typed[T](req, reply)
}

// everywhere asks every shard and hands each answer on as it comes, one at a time, so that no more is held than take keeps.
func everywhere[T any](ctx context.Context, r *reading, req any, take func(*T) error) error {
	m, err := r.shardMap(ctx)
	if err != nil {
		return err
	}
	shards := make([]event.ShardID, len(m.Shards))
	for i := range m.Shards {
		shards[i] = m.Shards[i].ID
	}
	var taking sync.Mutex
	err = r.each(ctx, shards, wholeShare, func(ctx context.Context, shard event.ShardID) error {
		reply, err := part[T](ctx, r, shard, req)
		if err != nil {
			return err
		}
		taking.Lock()
		defer taking.Unlock()
		return take(reply)
	})
	if err != nil {
		return err
	}
	return r.anything(shards)
}

// The shares of the time left that the shards of a partial read have, so that something is left for the answer, or for the next step
// of a walk, when one of them does not come.
const (
	wholeShare = 0.9
	stepShare  = 0.5
)

// each runs ask for each shard, at most maxFanOut at a time, until all have answered or failed. One deadline holds for all.
// Failures fail the whole, all of them by their shards' names; a partial read notes them and goes on, unless the request itself is
// at fault.
func (r *reading) each(ctx context.Context, shards []event.ShardID, share float64, ask func(ctx context.Context, shard event.ShardID) error) error {
	if deadline, ok := ctx.Deadline(); ok && r.partial {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(share*float64(time.Until(deadline))))
		defer cancel()
	}
	failures := make([]*event.Error, len(shards))
	var g errgroup.Group
	g.SetLimit(maxFanOut)
	for i, shard := range shards {
		if r.isMissing(shard) {
			continue
		}
		g.Go(func() error {
			if err := ask(ctx, shard); err != nil {
				failures[i] = wireError(err)
			}
			return nil
		})
	}
	_ = g.Wait() // they return none
	return r.settle(shards, failures)
}

func (r *reading) isMissing(shard event.ShardID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missing[shard] != nil
}

// settle makes of the shards' failures, nil for those that answered, an error or missing shards.
func (r *reading) settle(shards []event.ShardID, failures []*event.Error) error {
	var failed []event.ShardID
	var why []*event.Error
	atFault := false
	for i, e := range failures {
		if e != nil {
			failed, why = append(failed, shards[i]), append(why, e)
			atFault = atFault || refusesTheRequest(e.Kind)
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case !r.partial || atFault:
		return together(failed, why, len(shards))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, shard := range failed {
		r.missing[shard] = why[i]
	}
	return nil
}

// refusesTheRequest tells whether an error speaks of the request rather than of the shard: every shard would say the same.
func refusesTheRequest(kind event.Kind) bool {
	switch kind {
	case event.KindInvalid, event.KindTooLarge, event.KindUnsupported, event.KindRefused:
		return true
	}
	return false
}

// together is the error of a fan-out over n shards: it names every shard that failed.
func together(failed []event.ShardID, why []*event.Error, n int) error {
	if len(failed) == 1 {
		return named(failed[0], why[0])
	}
	all := event.Error{Kind: why[0].Kind}
	names := make([]string, len(failed))
	for i, e := range why {
		names[i] = string(failed[i])
		if i < maxReasons {
			names[i] += ": " + e.Error()
		}
		all.RetryAfterMillis = max(all.RetryAfterMillis, e.RetryAfterMillis)
		switch {
		case refusesTheRequest(all.Kind):
		case refusesTheRequest(e.Kind):
			all.Kind = e.Kind
		case e.Kind != all.Kind:
			all.Kind = event.KindUnavailable
		}
	}
	all.Message = fmt.Sprintf("%d of %d shards failed: %s", len(failed), n, strings.Join(names, "; "))
	return &all
}

// named says at which shard a part of a fan-out failed.
func named(shard event.ShardID, err error) error {
	if err == nil {
		return nil
	}
	e := *wireError(err)
	e.Op, e.Message = "ask "+string(shard), e.Error()
	return &e
}

// anything refuses an answer that none of the shards is in.
func (r *reading) anything(shards []event.ShardID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var why []*event.Error
	for _, shard := range shards {
		if e := r.missing[shard]; e != nil {
			why = append(why, e)
		}
	}
	if len(why) == 0 || len(why) < len(shards) {
		return nil
	}
	return together(shards, why, len(shards))
}

// contract says in the reply what it stands for.
func (r *reading) contract(ok *transport.QueryOk) *transport.QueryOk {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, shard := range slices.Sorted(maps.Keys(r.reads)) {
		if r.missing[shard] == nil {
			ok.Reads = append(ok.Reads, r.reads[shard])
		}
	}
	for _, shard := range slices.Sorted(maps.Keys(r.missing)) {
		e := r.missing[shard]
		ok.Missing = append(ok.Missing, transport.MissingShard{ShardID: shard, Kind: e.Kind, Message: e.Error()})
	}
	return ok
}

// byOwner asks each shard about its own of the ids, all at once and at most transport.MaxExpand a request, and puts the answers in
// the order of the ids. Those of a missing shard are zero.
func byOwner[T any](ctx context.Context, r *reading, ids []string, ask func(ctx context.Context, shard event.ShardID, ids []string) ([]T, error)) ([]T, error) {
	m, err := r.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	places := map[event.ShardID][]int{}
	for i, id := range ids {
		s, err := m.Shard(id)
		if err != nil {
			return nil, err
		}
		places[s.ID] = append(places[s.ID], i)
	}
	all := make([]T, len(ids))
	err = r.each(ctx, slices.Sorted(maps.Keys(places)), stepShare, func(ctx context.Context, shard event.ShardID) error {
		for at := range slices.Chunk(places[shard], transport.MaxExpand) {
			own := make([]string, len(at))
			for n, i := range at {
				own[n] = ids[i]
			}
			answers, err := ask(ctx, shard, own)
			if err != nil {
				return err
			}
			if len(answers) != len(at) {
				return &event.Error{Kind: event.KindInternal, Op: "look up", Message: fmt.Sprintf("%s answered %d of %d ids", shard, len(answers), len(at))}
			}
			for n, i := range at { // shards write to different places
				all[i] = answers[n]
			}
		}
		return nil
	})
	return all, err
}
