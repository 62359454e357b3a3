package storagenode

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxTimeout bounds what a request may ask for, so that no handler outlives its use.
const maxTimeout = 5 * time.Minute

// handle answers one frame: a routed request for one shard, or a plain one of the Sutra protocol.
func (n *Node) handle(ctx context.Context, _ *transport.Session, req any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout(req))
	defer cancel()
	switch q := req.(type) {
	case *transport.Routed:
		if err := transport.Validate(q, int(n.cfg.Dimension)); err != nil {
			return nil, err
		}
		return n.routed(ctx, q)
	case *transport.HealthCheck:
		return n.health(), nil
	case *transport.Batch:
		if err := transport.Validate(q, int(n.cfg.Dimension)); err != nil {
			return nil, err
		}
		return n.batch(ctx, q)
	case *transport.Flush:
		return n.flush()
	}
	if reply, ok, err := n.checkpointRequest(ctx, req); ok {
		return reply, err
	}
	if err := n.checkPlain(req); err != nil {
		return nil, err
	}
	r, err := n.local(req)
	if err != nil {
		return nil, err
	}
	out, err := n.perform(ctx, r, n.plain(req))
	return out.reply, err
}

// checkPlain refuses what is no request of the plain protocol.
func (n *Node) checkPlain(req any) error {
	switch req.(type) {
	case *transport.LearnConcept, *transport.LearnAssociation, *transport.QueryConcept, *transport.GetNeighbors, *transport.FindPath,
		*transport.GetAssociation, *transport.GetAllConceptIds, *transport.GetStats, *transport.Flush, *transport.HealthCheck,
		*transport.Neighbors, *transport.Expand, *transport.DeleteConcept, *transport.DeleteAssociation,
		*transport.LearnConceptV2, *transport.LearnBatch, *transport.Embed, *transport.Exists,
		*transport.QueryByMetadata, *transport.Scan, *transport.ContentHash, *transport.VectorSearch,
		*transport.FindPathSemantic, *transport.FindTemporalChain, *transport.FindCausalChain, *transport.FindContradictions,
		*transport.ReadConcept, *transport.QueryBySemantic, *transport.Classify, *transport.Links, *transport.Survey:
		return transport.Validate(req, int(n.cfg.Dimension))
	case *transport.Prepare, *transport.Finish, *transport.Write, *transport.TxnResults:
		return &event.Error{Kind: event.KindInvalid, Message: transport.VariantName(req) + " names no shard: send it inside Routed"}
	}
	return unsupported(req)
}

func (n *Node) timeout(req any) time.Duration {
	if q, ok := req.(*transport.Routed); ok && q.TimeoutMillis > 0 {
		return min(time.Duration(q.TimeoutMillis)*time.Millisecond, maxTimeout)
	}
	return n.cfg.RequestTimeout
}

// plain makes the call of a plain request; a write gets its request id here, before its first attempt (safety S3).
func (n *Node) plain(req any) call {
	c := call{request: req}
	if _, write := opsOf(req); write {
		c.id, c.issued, c.once = newRequestID(), time.Now().UnixMicro(), true
	}
	return c
}

func newRequestID() (id event.RequestID) {
	rand.Read(id[:])
	return id
}

// local finds the replica that answers a plain request: the shard that owns its ids, which this node must lead.
func (n *Node) local(req any) (*replica, error) {
	m := n.maps.current()
	if m.Base == 1 && len(m.Shards) == 1 {
		return n.replicas.get(m, m.Shards[0].ID)
	}
	ids := idsOf(req)
	if len(ids) == 0 {
		return nil, n.ofOneShard(req, "concerns every shard")
	}
	owner, err := m.Shard(ids[0])
	if err != nil {
		return nil, err
	}
	for _, id := range ids[1:] {
		if other, err := m.Shard(id); err != nil || other.ID != owner.ID {
			return nil, errors.Join(err, n.ofOneShard(req, fmt.Sprintf("concerns %s and %s", owner.ID, other.ID)))
		}
	}
	if _, ok := req.(*transport.FindPath); ok {
		return nil, n.ofOneShard(req, "may leave the shard of its ends")
	}
	return n.replicas.get(m, owner.ID)
}

func (n *Node) ofOneShard(req any, why string) *event.Error {
	return &event.Error{Kind: event.KindRefused,
		Message: fmt.Sprintf("%s %s, and a storage node answers for one shard at a time: send it to a master's grid port", transport.VariantName(req), why)}
}

// routed answers a request that names its shard.
func (n *Node) routed(ctx context.Context, q *transport.Routed) (any, error) {
	if q.Consistency != "" && q.Consistency != linearizable && q.Consistency != stale {
		return nil, &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf("consistency %.32q: want %s or %s", q.Consistency, linearizable, stale)}
	}
	m := n.maps.current()
	r, err := n.holder(m, q)
	if err != nil {
		return nil, err
	}
	c := call{request: q.Request.Value, id: q.RequestID, issued: q.Issued, stale: q.Consistency == stale}
	var out outcome
	if b, ok := c.request.(*transport.Batch); ok {
		out, err = n.routedBatch(ctx, r, c, b)
	} else if err = n.admit(m, r, c); err == nil {
		out, err = n.perform(ctx, r, c)
	}
	if err != nil {
		return nil, err
	}
	return &transport.RoutedOk{ShardSeq: out.index, Epoch: m.Epoch, ReadMode: readMode(c), Reply: transport.Any{Value: out.reply}}, nil
}

const (
	linearizable = "linearizable"
	stale        = "stale"
)

func readMode(c call) string {
	if c.stale {
		return stale
	}
	return linearizable
}

// holder finds the replica of the named shard. Who asks for a shard that is not here has an old map, or we have.
func (n *Node) holder(m *mapState, q *transport.Routed) (*replica, error) {
	r, err := n.replicas.get(m, q.ShardID)
	if err == nil && q.Consistency == stale && m.left(r) {
		err = &event.Error{Kind: event.KindWrongShard, Epoch: m.Epoch.Seq, Message: fmt.Sprintf("the replica of %s on this node has left its group: refresh the map", r.shard)}
	}
	var e *event.Error
	if errors.As(err, &e) && e.Kind == event.KindWrongShard && m.Epoch.Less(q.Epoch) {
		return nil, &event.Error{Kind: event.KindUnavailable,
			Message: fmt.Sprintf("%s is not on this node by its map of epoch %d, older than the caller's %d: retry", q.ShardID, m.Epoch.Seq, q.Epoch.Seq)}
	}
	return r, err
}

// admit refuses what this shard may not do: ids of other shards, writes that cannot be told from their retries, paths that
// may leave the shard.
func (n *Node) admit(m *mapState, r *replica, c call) error {
	for _, id := range idsOf(c.request) {
		owner, err := m.Shard(id)
		if err != nil {
			return err
		}
		if owner.ID != r.shard {
			return &event.Error{Kind: event.KindWrongShard, Epoch: m.Epoch.Seq,
				Message: fmt.Sprintf("id %q belongs to %s, not to %s: refresh the map", id, owner.ID, r.shard)}
		}
	}
	if _, write := opsOf(c.request); write && (c.id.IsZero() || c.issued <= 0) {
		return &event.Error{Kind: event.KindInvalid, Message: "a routed write needs a request id and the time it was issued"}
	}
	if learns(c.request) && m.Base > 1 {
		return &event.Error{Kind: event.KindUnsupported, Message: "what is learnt may be linked to concepts of other shards: ask a master's grid port"}
	}
	if _, ok := c.request.(*transport.FindPath); (ok || semanticwalk.Walks(c.request)) && m.Base > 1 {
		return &event.Error{Kind: event.KindUnsupported, Message: "a path may leave the shard: ask a master's grid port, or walk with Expand"}
	}
	return nil
}

// flush makes every local shard's applied writes durable in its engine.
func (n *Node) flush() (any, error) {
	for _, r := range n.replicas.all() {
		if err := r.engine.Flush(); err != nil {
			return nil, fmt.Errorf("flush %s: %w", r.shard, err)
		}
	}
	return &transport.FlushOk{}, nil
}

// health says whether every replica that belongs here serves.
func (n *Node) health() *transport.HealthCheckOk {
	status := n.replicas.status(n.maps.current())
	return &transport.HealthCheckOk{Healthy: status == statusOK || strings.HasPrefix(status, catchingUp), Status: status, UptimeSeconds: n.uptime()}
}

func (n *Node) uptime() uint64 { return uint64(time.Since(n.started) / time.Second) }
