package main

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// defaultPathDepth is how far `gridctl path` looks unless told; the protocol's limit is 20 edges.
const defaultPathDepth = 20

// withStore runs a verb of n arguments with the SDK open.
func withStore(n int, verb func(c *cli.Context, s *session, store *client.Client) error) cli.ActionFunc {
	return withSession(n, func(c *cli.Context, s *session) error {
		store, err := s.store()
		if err != nil {
			return err
		}
		defer store.Close()
		return verb(c, s, store)
	})
}

// do sends one storage request and returns its typed reply.
func do[T any](ctx context.Context, store *client.Client, req any) (*T, error) {
	reply, err := store.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	t, ok := reply.(*T)
	if !ok {
		return nil, unexpected(req, reply)
	}
	return t, nil
}

func notFound(format string, args ...any) error {
	return &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf(format, args...)}
}

// conceptJSON is a concept as `get` prints it and as an import file has it.
type conceptJSON struct {
	ID         string            `json:"id"`
	Content    string            `json:"content"`
	Strength   *float32          `json:"strength,omitempty"`
	Confidence *float32          `json:"confidence,omitempty"`
	Embedding  []float32         `json:"embedding,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
}

func (j conceptJSON) request() *transport.LearnConcept {
	return &transport.LearnConcept{
		ConceptID: j.ID, Content: j.Content, Embedding: j.Embedding, Strength: orOne(j.Strength), Confidence: orOne(j.Confidence),
		Metadata: &transport.Metadata{Attributes: j.Attributes, Tags: j.Tags},
	}
}

func orOne(f *float32) float32 {
	if f == nil {
		return 1
	}
	return *f
}

func getCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "one concept", ArgsUsage: "ID",
		Action: withStore(1, func(c *cli.Context, s *session, store *client.Client) error {
			id := c.Args().First()
			r, err := do[transport.QueryConceptOk](s.ctx, store, &transport.QueryConcept{ConceptID: id})
			if err != nil {
				return err
			}
			if !r.Found {
				return notFound("concept %q does not exist", id)
			}
			j := conceptJSON{ID: r.ConceptID, Content: r.Content, Strength: &r.Strength, Confidence: &r.Confidence}
			if r.Metadata != nil {
				j.Attributes, j.Tags = r.Metadata.Attributes, r.Metadata.Tags
			}
			return out.show(j, func(w io.Writer) { showConcept(w, j) })
		}),
	}
}

func showConcept(w io.Writer, j conceptJSON) {
	fmt.Fprintf(w, "id          %s\ncontent     %s\nstrength    %g\nconfidence  %g\n", j.ID, j.Content, *j.Strength, *j.Confidence)
	var keys []string
	for k := range j.Attributes {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(w, "attribute   %s = %s\n", k, j.Attributes[k])
	}
	if len(j.Tags) > 0 {
		fmt.Fprintf(w, "tags        %s\n", strings.Join(j.Tags, ", "))
	}
}

func putCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "put", Usage: "create a concept, or replace its fields (its associations stay)", ArgsUsage: "ID CONTENT",
		Flags: []cli.Flag{
			&cli.Float64Flag{Name: "strength", Value: 1, Usage: "how well it is established"},
			&cli.Float64Flag{Name: "confidence", Value: 1, Usage: "how sure it is"},
			&cli.StringSliceFlag{Name: "attribute", Aliases: []string{"attr", "a"}, Usage: "key=value; may be repeated"},
			&cli.StringSliceFlag{Name: "tag", Usage: "may be repeated"},
		},
		Action: withStore(2, func(c *cli.Context, s *session, store *client.Client) error {
			attributes, err := attributesOf(c)
			if err != nil {
				return err
			}
			strength, confidence := float32(c.Float64("strength")), float32(c.Float64("confidence"))
			j := conceptJSON{ID: c.Args().Get(0), Content: c.Args().Get(1), Strength: &strength, Confidence: &confidence,
				Attributes: attributes, Tags: c.StringSlice("tag")}
			r, err := do[transport.LearnConceptOk](s.ctx, store, j.request())
			if err != nil {
				return err
			}
			return out.show(map[string]any{"id": j.ID, "sequence": r.Sequence}, func(w io.Writer) { fmt.Fprintf(w, "%s stored\n", j.ID) })
		}),
	}
}

func linkCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "link", Usage: "create an association between two concepts, or update its confidence", ArgsUsage: "SOURCE TARGET",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "type", Value: "semantic", Usage: "a name or a number; a new name is added to the grid"},
			&cli.Float64Flag{Name: "confidence", Value: 1, Usage: "how sure it is"},
		},
		Action: withStore(2, func(c *cli.Context, s *session, store *client.Client) error {
			number, err := typeNumber(s, c.String("type"))
			if err != nil {
				return err
			}
			req := &transport.LearnAssociation{SourceID: c.Args().Get(0), TargetID: c.Args().Get(1), AssocType: number, Confidence: float32(c.Float64("confidence"))}
			if _, err := do[transport.LearnAssociationOk](s.ctx, store, req); err != nil {
				return err
			}
			return out.show(map[string]any{"source": req.SourceID, "target": req.TargetID, "type": c.String("type"), "number": number}, func(w io.Writer) {
				fmt.Fprintf(w, "%s -%s-> %s stored\n", req.SourceID, c.String("type"), req.TargetID)
			})
		}),
	}
}

// typeNumber resolves an association type: a number is itself, a name is agreed through the masters' log.
func typeNumber(s *session, name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	r, err := ask[transport.AssociationTypeOk](s, &transport.AssociationType{Name: name})
	if err != nil {
		return 0, err
	}
	return r.Number, nil
}

// typeNames maps numbers back to names.
func typeNames(s *session) (map[uint32]string, error) {
	r, err := ask[transport.AssociationTypesOk](s, &transport.AssociationTypes{})
	if err != nil {
		return nil, err
	}
	names := map[uint32]string{}
	for i, n := range r.Numbers {
		names[n] = r.Names[i]
	}
	return names, nil
}

// neighborJSON is one line of `gridctl neighbors`.
type neighborJSON struct {
	ID         string  `json:"id"`
	Type       string  `json:"type"`
	Number     uint32  `json:"number"`
	Confidence float32 `json:"confidence"`
	Direction  string  `json:"direction"`
}

func neighborsCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "neighbors", Usage: "the associations of a concept, in the order they were committed", ArgsUsage: "ID",
		Flags: shardReadFlags(
			&cli.StringFlag{Name: "direction", Value: "out", Usage: "out, in or both"},
			&cli.StringFlag{Name: "type", Usage: "only this type, a name or a number"},
			&cli.UintFlag{Name: "limit", Value: 100, Usage: "at most this many; 0 for all"},
		),
		Action: withStore(1, func(c *cli.Context, s *session, store *client.Client) error {
			r, err := newShardReader(c, s, store)
			if err != nil {
				return err
			}
			found, err := listNeighbors(c, r)
			if err != nil {
				return err
			}
			return out.show(map[string]any{"id": c.Args().First(), "neighbors": found}, func(w io.Writer) {
				var lines [][]any
				for _, n := range found {
					lines = append(lines, []any{n.ID, n.Type, n.Direction, n.Confidence})
				}
				rows(w, []any{"ID", "TYPE", "DIRECTION", "CONFIDENCE"}, lines)
			})
		}),
	}
}

func listNeighbors(c *cli.Context, r *shardReader) ([]neighborJSON, error) {
	id, limit := c.Args().First(), c.Uint("limit")
	req := &transport.Neighbors{ConceptID: id, Direction: c.String("direction")}
	if name := c.String("type"); name != "" {
		number, err := typeNumber(r.s, name)
		if err != nil {
			return nil, err
		}
		req.Type = &number
	}
	names, err := typeNames(r.s)
	if err != nil {
		return nil, err
	}
	known, err := read[transport.QueryConceptOk](r, &transport.QueryConcept{ConceptID: id})
	if err != nil {
		return nil, err
	}
	if !known.Found {
		return nil, notFound("concept %q does not exist", id)
	}
	found := []neighborJSON{}
	for {
		if limit > 0 {
			req.Limit = uint32(min(limit-uint(len(found)), 1000))
		}
		page, err := read[transport.NeighborsOk](r, req)
		if err != nil {
			return nil, err
		}
		for _, n := range page.Items {
			name, named := names[n.Type]
			if !named {
				name = strconv.FormatUint(uint64(n.Type), 10)
			}
			found = append(found, neighborJSON{ID: n.ID, Type: name, Number: n.Type, Confidence: n.Confidence, Direction: n.Direction})
		}
		if page.Cursor == "" || limit > 0 && uint(len(found)) >= limit {
			return found, nil
		}
		req.Cursor = page.Cursor
	}
}

func pathCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "path", Usage: "a shortest path from one concept to another along associations", ArgsUsage: "FROM TO",
		Flags: fanOutFlags(&cli.UintFlag{Name: "max-depth", Value: defaultPathDepth, Usage: "at most this many associations, 1 to 20"}),
		Action: withStore(2, func(c *cli.Context, s *session, store *client.Client) error {
			r, err := newShardReader(c, s, store)
			if err != nil {
				return err
			}
			path, err := findPath(c, r)
			r.note(out)
			if err != nil {
				return err
			}
			return out.show(r.with(map[string]any{"found": true, "path": path}), func(w io.Writer) { fmt.Fprintln(w, strings.Join(path, " -> ")) })
		}),
	}
}

// findPath finds the path between the two arguments; both must be there, also of a partial read.
func findPath(c *cli.Context, r *shardReader) ([]string, error) {
	from, to := c.Args().Get(0), c.Args().Get(1)
	for _, id := range []string{from, to} {
		concept, err := read[transport.QueryConceptOk](r, &transport.QueryConcept{ConceptID: id})
		if err != nil {
			return nil, err
		}
		if !concept.Found {
			return nil, notFound("concept %q does not exist", id)
		}
	}
	ok, err := read[transport.FindPathOk](r, &transport.FindPath{StartID: from, EndID: to, MaxDepth: uint32(c.Uint("max-depth"))})
	if err != nil {
		return nil, err
	}
	if !ok.Found {
		return nil, notFound("no path from %q to %q within %d associations", from, to, c.Uint("max-depth"))
	}
	return ok.Path, nil
}
