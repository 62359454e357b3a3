package storagenode

import (
	"context"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/semantic"
	"github.com/sutra-grid/sutra-grid/transport"
)

// classifier says what the concepts of one shard mean to a request.
type classifier struct {
	e      *engine.Engine
	filter *semantic.Filter
	feed   bool // the shard is event storage
}

func newClassifier(r *replica, f *transport.SemanticFilter) *classifier {
	return &classifier{e: r.engine, filter: semantic.NewFilter(f), feed: r.shard == eventsShard}
}

// of classifies one concept.
func (c *classifier) of(id string, s *semantic.Concept) (transport.Classified, error) {
	if c.feed && ofTheFeed(id, s.Attributes) {
		return transport.Classified{ConceptID: id}, nil
	}
	class := semantic.Of(s.Content, s.Attributes)
	passes, err := c.filter.Passes(s, &class, func() (bool, error) { return c.linked(id) })
	return transport.Classified{ConceptID: id, Known: true, Passes: passes, SemanticType: class.Type, Domain: class.Domain, Relation: class.Relation,
		Time: s.Time, Statement: class.Statement}, err
}

// ofTheFeed tells the events that masters ship and what goes with them: their associations' types are events' codes, which mean
// something else to everybody else.
func ofTheFeed(id string, attributes map[string]string) bool {
	var seq uint64
	if n, err := fmt.Sscanf(id, "event-%d", &seq); n == 1 && err == nil && id == event.ConceptID(seq) {
		return true
	}
	kind := attributes["kind"]
	return kind == "entity" || kind == "time"
}

// linked tells whether a concept has a causal association, in either direction.
func (c *classifier) linked(id string) (bool, error) {
	kind := uint32(transport.CausalAssociation)
	q := &transport.Neighbors{ConceptID: id, Direction: "both", Type: &kind, Limit: 1}
	for {
		page, err := c.e.Neighbors(q)
		if err != nil || len(page.Items) > 0 {
			return err == nil, err
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return false, nil
		}
	}
}

// classify answers Classify.
func classify(r *replica, q *transport.Classify) (*transport.ClassifyOk, error) {
	c := newClassifier(r, q.Filter)
	ok := &transport.ClassifyOk{Concepts: make([]transport.Classified, len(q.ConceptIDs))}
	for i, id := range q.ConceptIDs {
		ok.Concepts[i].ConceptID = id
	}
	err := r.engine.Each(q.ConceptIDs, func(i int, stored *engine.Concept) (err error) {
		ok.Concepts[i], err = c.of(stored.ID, &semantic.Concept{Content: stored.Content, Attributes: stored.Attributes, Confidence: stored.Confidence, Time: stored.Created})
		return err
	})
	return ok, err
}

// survey answers Survey: a page of the time index where the filter bounds time, else of all concepts by id.
func survey(r *replica, q *transport.Survey) (*transport.SurveyOk, error) {
	items, cursor, err := r.page(q.Filter, q.Cursor)
	if err != nil {
		return nil, err
	}
	c := newClassifier(r, q.Filter)
	ok := &transport.SurveyOk{Concepts: []transport.Classified{}, Cursor: cursor}
	for i := range items {
		found, err := c.of(items[i].ConceptID, conceptOf(&items[i]))
		if err != nil {
			return nil, err
		}
		if found.Known && found.Passes {
			ok.Concepts = append(ok.Concepts, found)
		}
	}
	return ok, nil
}

// page reads the concepts that may pass a filter.
func (r *replica) page(f *transport.SemanticFilter, cursor string) ([]transport.ConceptItem, string, error) {
	from, to, bounded := semantic.Span(f)
	if !bounded {
		return r.scanPage(cursor)
	}
	ok, err := r.engine.QueryByMetadata(&transport.QueryByMetadata{From: from, To: to, Cursor: cursor})
	if err != nil {
		return nil, "", err
	}
	return ok.Items, ok.Cursor, nil
}

func (r *replica) scanPage(cursor string) ([]transport.ConceptItem, string, error) {
	ok, err := r.engine.Scan(&transport.Scan{Cursor: cursor})
	if err != nil {
		return nil, "", err
	}
	return ok.Items, ok.Cursor, nil
}

func conceptOf(item *transport.ConceptItem) *semantic.Concept {
	c := &semantic.Concept{Content: item.Content, Confidence: item.Confidence, Time: transport.Micros(item.Created)}
	if item.Metadata != nil {
		c.Attributes = item.Metadata.Attributes
	}
	return c
}

// queryBySemantic answers QueryBySemantic of one shard: page after page, until there are enough.
func (n *Node) queryBySemantic(ctx context.Context, r *replica, q *transport.QueryBySemantic) (*transport.QueryBySemanticOk, error) {
	if err := n.replicas.walks.Take(ctx); err != nil {
		return nil, err
	}
	defer n.replicas.walks.Give()
	limit, size := transport.LimitOf(q), 0
	c := newClassifier(r, q.Filter)
	ok := &transport.QueryBySemanticOk{Concepts: []transport.SemanticConcept{}}
	for cursor := ""; len(ok.Concepts) < limit; {
		items, next, err := r.scanPage(cursor)
		if err != nil {
			return nil, err
		}
		for i := range items {
			if len(ok.Concepts) == limit {
				break
			}
			item := &items[i]
			found, err := c.of(item.ConceptID, conceptOf(item))
			if err != nil {
				return nil, err
			}
			if !found.Known || !found.Passes {
				continue
			}
			if size += len(item.Content); size > transport.SemanticBytes {
				return nil, transport.TooMuchContent()
			}
			ok.Concepts = append(ok.Concepts, transport.SemanticConcept{ConceptID: item.ConceptID, Content: item.Content,
				SemanticType: found.SemanticType, Domain: found.Domain, Confidence: item.Confidence})
		}
		if cursor = next; cursor == "" {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return ok, nil
}

// walkSemantic answers the requests that lead from concept to concept, inside this shard; every read of theirs is one of its own.
func (n *Node) walkSemantic(ctx context.Context, r *replica, req any, stale bool) (outcome, error) {
	begun, explored := time.Now(), 0
	index := r.engine.Applied()
	seen := func(at uint64, err error) error {
		index = max(index, at)
		return err
	}
	s := semanticwalk.Store{
		Slots: n.replicas.walks,
		Classify: func(ctx context.Context, q *transport.Classify) (found []transport.Classified, err error) {
			err = seen(r.rows(ctx, stale, q.ConceptIDs, func() error {
				ok, err := classify(r, q)
				if err == nil {
					found = ok.Concepts
				}
				return err
			}))
			return found, err
		},
		Links: func(ctx context.Context, q *transport.Links) (links [][]transport.Edge, err error) {
			err = seen(r.rows(ctx, stale, q.ConceptIDs, func() error {
				ok, err := r.engine.Links(q)
				if err == nil {
					links = ok.Links
				}
				return err
			}))
			explored += len(q.ConceptIDs)
			return links, err
		},
		Survey: func(ctx context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error {
			if err := seen(r.everything(ctx, stale, func() error { return nil })); err != nil {
				return err
			}
			return r.surveyAll(ctx, f, each)
		},
	}
	reply, err := semanticwalk.Answer(ctx, s, req)
	r.readings.semanticPath(req, reply, explored, time.Since(begun))
	return outcome{reply, index}, err
}

// surveyAll reads all pages; what the read waited for was there before the first.
func (r *replica) surveyAll(ctx context.Context, f *transport.SemanticFilter, each func([]transport.Classified) error) error {
	for cursor := ""; ; {
		ok, err := survey(r, &transport.Survey{Filter: f, Cursor: cursor})
		if err != nil {
			return err
		}
		if err := each(ok.Concepts); err != nil {
			return err
		}
		if cursor = ok.Cursor; cursor == "" || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
