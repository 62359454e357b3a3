// Package learn makes concepts of contents: the requests LearnConceptV2 and LearnBatch, in one shard or over all of them.
//
//	content ── id, vector, links to what exists ── operations of one atomic write
//
// Invariants: the same content is the same concept, so a repeated request stores nothing twice. One content's concept and
// links are one write, all or nothing. It reaches the store through funcs alone: a storage node gives it its replica, the
// client library gives it the grid. It must not import either.
package learn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	// assocSemantic is the protocol's type for "has to do with".
	assocSemantic = 0
	// parallel is how many contents of a batch are worked on at once: their writes share group commits.
	parallel = 32
	// attempts is how often links are looked for when one's target is deleted between the look and the write.
	attempts = 3
)

// Store is what learning needs. The funcs are safe for concurrent use; their errors are *event.Error.
type Store struct {
	Embed  func(ctx context.Context, texts []string) ([][]float32, error) // nil for a text without anything to embed
	Exists Lookup
	// Write commits the operations atomically, under one request id. KindPrecondition: an end of an association is not there.
	Write func(ctx context.Context, ops []transport.Op) error
}

// One learns one content and returns its concept's id.
func One(ctx context.Context, s Store, content string, o transport.LearnOptions) (string, error) {
	concepts, err := conceptsOf(ctx, s, []string{content}, o)
	if err != nil {
		return "", err
	}
	return concepts[0].ID, write(ctx, s, &concepts[0], concepts, o)
}

// Many learns contents and returns their concepts' ids, in order. All concepts are written before any links are looked for,
// so that contents of one batch find each other whatever their order. Not atomic; the error names the content at fault.
func Many(ctx context.Context, s Store, contents []string, o transport.LearnOptions) ([]string, error) {
	concepts, err := conceptsOf(ctx, s, contents, o)
	if err != nil {
		return nil, err
	}
	err = each(ctx, len(concepts), func(ctx context.Context, i int) error {
		return s.Write(ctx, concepts[i:i+1:i+1])
	})
	if err == nil && o.ExtractAssociations {
		err = each(ctx, len(concepts), func(ctx context.Context, i int) error { return write(ctx, s, &concepts[i], nil, o) })
	}
	ids := make([]string, len(concepts))
	for i := range concepts {
		ids[i] = concepts[i].ID
	}
	return ids, err
}

// write writes a concept's links, and before them what they need.
func write(ctx context.Context, s Store, concept *transport.Op, before []transport.Op, o transport.LearnOptions) error {
	for attempt := 1; ; attempt++ {
		links, err := linksOf(ctx, s, concept, o)
		if err != nil || len(before)+len(links) == 0 {
			return err
		}
		err = s.Write(ctx, slices.Concat(before, links))
		if err == nil || attempt == attempts || len(links) == 0 || !targetGone(err) {
			return err
		}
	}
}

func targetGone(err error) bool { return errors.Is(err, &event.Error{Kind: event.KindPrecondition}) }

// conceptsOf makes each content's concept.
func conceptsOf(ctx context.Context, s Store, contents []string, o transport.LearnOptions) ([]transport.Op, error) {
	vectors := make([][]float32, len(contents))
	if o.GenerateEmbedding && len(contents) > 0 {
		var err error
		if vectors, err = s.Embed(ctx, contents); err != nil {
			return nil, err
		}
		if len(vectors) != len(contents) {
			return nil, &event.Error{Kind: event.KindInternal, Op: "embed", Message: fmt.Sprintf("got %d vectors for %d texts", len(vectors), len(contents))}
		}
	}
	ops := make([]transport.Op, len(contents))
	for i, content := range contents {
		ops[i] = transport.Op{Kind: transport.OpLearnConcept, ID: transport.ConceptIDOf(content), Content: content, Embedding: vectors[i],
			Strength: o.Strength, Confidence: o.Confidence}
	}
	return ops, nil
}

// linksOf makes a concept's associations.
func linksOf(ctx context.Context, s Store, concept *transport.Op, o transport.LearnOptions) ([]transport.Op, error) {
	if !o.ExtractAssociations {
		return nil, nil
	}
	w := Want{Self: concept.ID, Limit: int(min(o.MaxAssociations, transport.MaxExtracted)), Least: o.MinAssociationConfidence}
	links, err := Extract(ctx, concept.Content, w, s.Exists)
	if err != nil {
		return nil, err
	}
	ops := make([]transport.Op, len(links))
	for i, l := range links {
		ops[i] = transport.Op{Kind: transport.OpLearnAssociation, ID: concept.ID, Target: l.Target, AssocType: assocSemantic, Confidence: l.Confidence}
	}
	return ops, nil
}

// each runs f for every content, some at a time; the first error ends the others.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range n {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return named(i, f(ctx, i))
		})
	}
	return g.Wait()
}

// named says which content an error is about.
func named(i int, err error) error {
	var e *event.Error
	if !errors.As(err, &e) {
		return err
	}
	of := *e
	of.Op, of.Message = fmt.Sprintf("learn contents[%d]", i), e.Error()
	return &of
}
