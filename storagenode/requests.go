package storagenode

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/graphwalk"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// call is one request for one shard.
type call struct {
	request any // a pointer to a message
	id      event.RequestID
	issued  int64
	stale   bool
	once    bool // a plain write: its id is ours, and nobody sends it again
}

// outcome is a reply and the shard's log index that it stands for.
type outcome struct {
	reply any
	index uint64
}

// opsOf is a write's operations; false: the request is no write.
func opsOf(req any) ([]transport.Op, bool) {
	switch q := req.(type) {
	case *transport.LearnConcept:
		return []transport.Op{{Kind: transport.OpLearnConcept, ID: q.ConceptID, Content: q.Content, Embedding: q.Embedding,
			Strength: q.Strength, Confidence: q.Confidence, Metadata: q.Metadata}}, true
	case *transport.LearnAssociation:
		return []transport.Op{{Kind: transport.OpLearnAssociation, ID: q.SourceID, Target: q.TargetID, AssocType: q.AssocType,
			Confidence: q.Confidence}}, true
	case *transport.DeleteConcept:
		return []transport.Op{{Kind: transport.OpDeleteConcept, ID: q.ConceptID}}, true
	case *transport.DeleteAssociation:
		op := transport.Op{Kind: transport.OpDeleteAssociation, ID: q.SourceID, Target: q.TargetID}
		if q.AssocType != nil {
			op.Kind, op.AssocType = transport.OpDeleteAssociationType, *q.AssocType
		}
		return []transport.Op{op}, true
	case *transport.Write:
		return q.Ops, true
	}
	return nil, false
}

// written is the reply to a write.
func written(req any, a engine.Answer) outcome {
	switch req.(type) {
	case *transport.LearnConcept:
		return outcome{&transport.LearnConceptOk{Sequence: a.Seq}, a.Seq}
	case *transport.LearnAssociation:
		return outcome{&transport.LearnAssociationOk{Sequence: a.Seq}, a.Seq}
	case *transport.DeleteConcept:
		return outcome{&transport.DeleteConceptOk{Deleted: !a.Nothing, Sequence: a.Seq}, a.Seq}
	case *transport.DeleteAssociation:
		return outcome{&transport.DeleteAssociationOk{Deleted: !a.Nothing, Sequence: a.Seq}, a.Seq}
	}
	return outcome{writeOk(req, a), a.Seq}
}

// writeOk is the reply to a Write. The result of a delete on its own is in the answer itself.
func writeOk(req any, a engine.Answer) *transport.WriteOk {
	ok := &transport.WriteOk{Sequence: a.Seq, Results: a.Results, ResultsOmitted: a.ResultsOmitted}
	if w, is := req.(*transport.Write); is && len(w.Ops) == 1 && w.Ops[0].Kind.Deletes() && !ok.ResultsOmitted {
		ok.Results = []transport.OpResult{{Found: !a.Nothing}}
	}
	return ok
}

// idsOf lists the ids whose shard must be this one.
func idsOf(req any) []string {
	switch q := req.(type) {
	case *transport.QueryConcept:
		return []string{q.ConceptID}
	case *transport.ReadConcept:
		return []string{q.ConceptID}
	case *transport.GetNeighbors:
		return []string{q.ConceptID}
	case *transport.Neighbors:
		return []string{q.ConceptID}
	case *transport.GetAssociation:
		return []string{q.SourceID}
	case *transport.Expand:
		return q.ConceptIDs
	case *transport.Exists:
		return q.ConceptIDs
	case *transport.Classify:
		return q.ConceptIDs
	case *transport.Links:
		return q.ConceptIDs
	case *transport.FindPath:
		return []string{q.StartID, q.EndID}
	case *transport.Prepare:
		return engine.LockIDs(q.Ops)
	}
	ops, _ := opsOf(req)
	return engine.LockIDs(ops)
}

// answer answers a request from this replica.
func (n *Node) answer(ctx context.Context, r *replica, c call) (outcome, error) {
	switch q := c.request.(type) {
	case *transport.Prepare:
		a, err := r.prepare(ctx, q)
		return outcome{a.Prepare, a.Seq}, err
	case *transport.Finish:
		a, err := r.finish(ctx, q)
		return outcome{&transport.FinishOk{}, a.Seq}, err
	case *transport.TxnResults:
		var kept *transport.TxnResultsOk
		index, err := r.rows(ctx, false, nil, func() (err error) { kept, err = r.engine.Results(q); return err })
		return outcome{kept, index}, err
	case *transport.Flush:
		index, err := r.rows(ctx, c.stale, nil, r.engine.Flush)
		return outcome{&transport.FlushOk{}, index}, err
	case *transport.ContentHash:
		sum := &transport.ContentHashOk{}
		index, err := r.everything(ctx, c.stale, func() (err error) { sum.Digest, sum.Applied, err = r.engine.Digest(ctx); return err })
		return outcome{sum, index}, err
	case *transport.IsMember:
		return n.isMember(ctx, r, q)
	case *transport.PreparedTxns:
		return r.preparedTxns(ctx)
	case *transport.HealthCheck:
		index, err := r.rows(ctx, c.stale, nil, func() error { return nil }) // a leader that can confirm itself
		return outcome{n.health(), index}, err
	case *transport.LearnConceptV2, *transport.LearnBatch:
		return n.learn(ctx, r, q)
	case *transport.Embed:
		vectors, err := n.embedder.Embed(ctx, q.Texts)
		return outcome{reply: &transport.EmbedOk{Embeddings: vectors}}, err
	}
	if ops, ok := opsOf(c.request); ok {
		a, err := r.write(ctx, &writing{id: c.id, issued: c.issued, ops: ops})
		return written(c.request, a), err
	}
	return n.lookUp(ctx, r, c)
}

// lookUp answers a read.
func (n *Node) lookUp(ctx context.Context, r *replica, c call) (out outcome, err error) {
	look := func() (err error) {
		out.reply, err = n.look(ctx, r, c.request)
		return err
	}
	if semanticwalk.Walks(c.request) {
		return n.walkSemantic(ctx, r, c.request, c.stale)
	}
	switch q := c.request.(type) {
	case *transport.FindPath:
		return r.findPath(ctx, q, c.stale)
	case *transport.VectorSearch:
		out.index, err = r.everything(ctx, c.stale, func() (err error) {
			out.reply, err = r.nearest(ctx, q)
			return err
		})
	case *transport.QueryBySemantic, *transport.Survey, *transport.GetAllConceptIds, *transport.GetStats, *transport.QueryByMetadata, *transport.Scan:
		out.index, err = r.everything(ctx, c.stale, look)
	default:
		out.index, err = r.rows(ctx, c.stale, idsOf(q), look)
	}
	if s, ok := out.reply.(*transport.StatsOk); ok {
		s.Pending = uint64(r.queue.waiting() + len(r.engine.Prepared()))
	}
	return out, err
}

// look reads one point of the state.
func (n *Node) look(ctx context.Context, r *replica, req any) (any, error) {
	e := r.engine
	switch q := req.(type) {
	case *transport.Classify:
		return classify(r, q)
	case *transport.Links:
		return e.Links(q)
	case *transport.Survey:
		return survey(r, q)
	case *transport.QueryBySemantic:
		return n.queryBySemantic(ctx, r, q)
	case *transport.QueryConcept:
		return queryConcept(e, q)
	case *transport.ReadConcept:
		return readConcept(e, q)
	case *transport.GetNeighbors:
		ids, err := e.Targets(q.ConceptID)
		return &transport.GetNeighborsOk{NeighborIDs: ids}, err
	case *transport.Neighbors:
		return e.Neighbors(q)
	case *transport.GetAssociation:
		return getAssociation(e, q)
	case *transport.Expand:
		return e.Expand(q)
	case *transport.Exists:
		return exists(e, q)
	case *transport.GetAllConceptIds:
		ids, err := e.IDs("", math.MaxInt32)
		return &transport.GetAllConceptIdsOk{ConceptIDs: ids}, err
	case *transport.QueryByMetadata:
		return e.QueryByMetadata(q)
	case *transport.Scan:
		return e.Scan(q)
	case *transport.GetStats:
		return n.stats(e), nil
	}
	return nil, unsupported(req)
}

func unsupported(req any) *event.Error {
	return &event.Error{Kind: event.KindUnsupported, Message: fmt.Sprintf("a storage node does not answer %s", transport.VariantName(req))}
}

func queryConcept(e *engine.Engine, q *transport.QueryConcept) (any, error) {
	c, found, err := e.Concept(q.ConceptID)
	if err != nil || !found {
		return &transport.QueryConceptOk{ConceptID: q.ConceptID}, err
	}
	reply := &transport.QueryConceptOk{Found: true, ConceptID: c.ID, Content: c.Content, Strength: c.Strength, Confidence: c.Confidence}
	if len(c.Attributes) > 0 || len(c.Tags) > 0 {
		reply.Metadata = &transport.Metadata{Attributes: c.Attributes, Tags: c.Tags}
	}
	return reply, nil
}

func getAssociation(e *engine.Engine, q *transport.GetAssociation) (any, error) {
	a, found, err := e.Association(q.SourceID, q.TargetID)
	if err != nil || !found {
		return &transport.GetAssociationOk{SourceID: q.SourceID, TargetID: q.TargetID}, err
	}
	return &transport.GetAssociationOk{Found: true, SourceID: a.Source, TargetID: a.Target, AssocType: a.Type, Confidence: a.Confidence}, nil
}

// stats counts one shard. Pending is filled in by who knows the queue. Dropped and reconciliations are always 0: nothing is dropped, and there is one view of the data.
func (n *Node) stats(e *engine.Engine) *transport.StatsOk {
	s := e.Stats()
	return &transport.StatsOk{
		Concepts: s.Concepts, Edges: s.Edges, Vectors: s.Vectors, Written: s.Written,
		UptimeSeconds: n.uptime(), TotalConcepts: s.Concepts, TotalEdges: s.Edges, Writes: s.Written,
	}
}

// findPath walks inside this shard; every frontier is one read of its own.
func (r *replica) findPath(ctx context.Context, q *transport.FindPath, stale bool) (outcome, error) {
	begun, explored := time.Now(), 0
	index := r.engine.Applied()
	expand := func(ctx context.Context, ids []string, direction string) ([][]string, []bool, error) {
		var reply *transport.ExpandOk
		look := func() (err error) {
			reply, err = r.engine.Expand(&transport.Expand{ConceptIDs: ids, Direction: direction})
			return err
		}
		at, err := r.rows(ctx, stale, ids, look)
		if err != nil {
			return nil, nil, err
		}
		index, explored = max(index, at), explored+len(ids)
		return reply.Neighbors, reply.Known, nil
	}
	path, found, err := graphwalk.ShortestPath(ctx, q.StartID, q.EndID, int(q.MaxDepth), expand)
	if err == nil {
		r.readings.path(q, path, explored, time.Since(begun))
	}
	return outcome{&transport.FindPathOk{Found: found, Path: path}, index}, err
}
