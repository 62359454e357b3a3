package storagenode

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// reads counts the queries that a replica answered.
type reads struct {
	n      atomic.Uint64
	micros atomic.Uint64 // that they took together
}

// perform answers a request from this replica, and keeps count of queries.
func (n *Node) perform(ctx context.Context, r *replica, c call) (outcome, error) {
	begun := time.Now()
	out, err := n.answer(ctx, r, c)
	if err != nil {
		return out, err
	}
	if q, is := queryOf(c.request, out.reply); is {
		took := time.Since(begun)
		r.reads.micros.Add(uint64(took.Microseconds()))
		r.readings.query(r.reads.n.Add(1), q, took)
	}
	return out, nil
}

// query reports the n-th query of a replica, if it is one of those that are.
func (t *readings) query(n uint64, q event.QueryPerformance, took time.Duration) {
	if t == nil || n%sampleOf != 0 && took <= slowQuery {
		return
	}
	q.NodeID, q.LatencyMS = t.node, millis(took)
	t.queries.Emit(q)
}

// queryOf says what is known of a query from its request and reply; false: the request is no query.
func queryOf(request, reply any) (event.QueryPerformance, bool) {
	for i := range queryKinds {
		if q, is := queryKinds[i].look(request, reply); is {
			q.QueryType = queryKinds[i].name
			return q, true
		}
	}
	return event.QueryPerformance{}, false
}

// queryKinds tells queries of a kind by their replies; no reply is of two.
var queryKinds = [...]struct {
	name string
	look func(request, reply any) (q event.QueryPerformance, is bool)
}{{event.QueryGet, getQuery}, {event.QueryGraph, graphQuery}, {event.QuerySemantic, semanticQuery}, {event.QueryHybrid, hybridQuery}}

func getQuery(_, reply any) (q event.QueryPerformance, is bool) {
	switch a := reply.(type) {
	case *transport.QueryConceptOk:
		q.ResultCount, q.Confidence = one(a.Found), decimal(a.Confidence)
	case *transport.GetAssociationOk:
		q.ResultCount, q.Confidence = one(a.Found), decimal(a.Confidence)
	case *transport.GetAllConceptIdsOk:
		q.ResultCount = uint32(len(a.ConceptIDs))
	case *transport.ExistsOk:
		q.ResultCount = uint32(len(a.Known))
	case *transport.QueryByMetadataOk:
		q.ResultCount = uint32(len(a.Items))
	case *transport.ScanOk:
		q.ResultCount = uint32(len(a.Items))
	default:
		return q, false
	}
	return q, true
}

func graphQuery(request, reply any) (q event.QueryPerformance, is bool) {
	q.QueryDepth = 1
	switch a := reply.(type) {
	case *transport.GetNeighborsOk:
		q.ResultCount = uint32(len(a.NeighborIDs))
	case *transport.NeighborsOk:
		q.ResultCount = uint32(len(a.Items))
	case *transport.ExpandOk:
		q.ResultCount = uint32(len(a.Known))
	case *transport.LinksOk:
		q.ResultCount = uint32(len(a.Links))
	case *transport.FindPathOk:
		q.QueryDepth, q.ResultCount = request.(*transport.FindPath).MaxDepth, one(a.Found)
	default:
		return q, false
	}
	return q, true
}

func semanticQuery(request, reply any) (q event.QueryPerformance, is bool) {
	switch a := reply.(type) {
	case *transport.FindPathSemanticOk:
		q = chains(request.(*transport.FindPathSemantic).MaxDepth, a.Paths)
	case *transport.FindCausalChainOk:
		q = chains(request.(*transport.FindCausalChain).MaxDepth, a.Paths)
	case *transport.FindTemporalChainOk:
		depth := request.(*transport.FindTemporalChain).MaxDepth
		if depth == nil { // it looks at a span of time
			depth = new(uint32)
		}
		q = chains(*depth, a.Paths)
	case *transport.FindContradictionsOk:
		q.ResultCount = uint32(len(a.Contradictions))
	case *transport.QueryBySemanticOk:
		q.ResultCount = uint32(len(a.Concepts))
		for i := range a.Concepts {
			q.Confidence = max(q.Confidence, decimal(a.Concepts[i].Confidence))
		}
	case *transport.VectorSearchOk:
		q.ResultCount = uint32(len(a.Results))
		return q, !filtered(request)
	case *transport.ClassifyOk:
		q.ResultCount = uint32(len(a.Concepts))
	case *transport.SurveyOk:
		q.ResultCount = uint32(len(a.Concepts))
	default:
		return q, false
	}
	return q, true
}

// hybridQuery is a search by vector among those that an index of attributes or tags has.
func hybridQuery(request, reply any) (q event.QueryPerformance, is bool) {
	a, is := reply.(*transport.VectorSearchOk)
	if !is || !filtered(request) {
		return q, false
	}
	q.ResultCount = uint32(len(a.Results))
	return q, true
}

func filtered(request any) bool {
	q, is := request.(*transport.VectorSearch)
	return is && len(q.Attributes)+len(q.Tags) > 0
}

// chains are paths of which the first is the most certain.
func chains(depth uint32, paths []transport.SemanticPath) event.QueryPerformance {
	q := event.QueryPerformance{QueryDepth: depth, ResultCount: uint32(len(paths))}
	if len(paths) > 0 {
		q.Confidence = decimal(paths[0].Confidence)
	}
	return q
}

// decimal is a float32 as it was written: without the digits that a float64 adds.
func decimal(f float32) float64 { return math.Round(float64(f)*1e6) / 1e6 }

func one(found bool) uint32 {
	if found {
		return 1
	}
	return 0
}
