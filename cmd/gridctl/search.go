package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxVectorFile bounds a file with a vector: far above 2,048 numbers.
const maxVectorFile = 1 << 20

// nearJSON is one line of `gridctl search`.
type nearJSON struct {
	ID      string  `json:"id"`
	Score   float32 `json:"score"` // cosine, -1 to 1
	Content string  `json:"content"`
}

func searchCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "search", Usage: "the concepts whose vectors are nearest to a text's, or to a vector, by cosine", ArgsUsage: " ",
		Flags: fanOutFlags(
			&cli.StringFlag{Name: "text", Usage: "search for what is like this text; the grid makes its vector"},
			&cli.StringFlag{Name: "vector-file", Usage: "search for a vector, a JSON array of numbers; - is standard input"},
			&cli.UintFlag{Name: "k", Value: 10, Usage: "how many, 1 to 1000"},
			&cli.UintFlag{Name: "ef", Usage: "candidates that the index collects, up to 10000: more find more; 0 for the default"},
			&cli.BoolFlag{Name: "exact", Usage: "compare with every vector"},
			&cli.StringSliceFlag{Name: "attribute", Aliases: []string{"attr", "a"}, Usage: "only concepts with key=value; may be repeated"},
			&cli.StringSliceFlag{Name: "tag", Usage: "only concepts with the tag; may be repeated"},
		),
		Action: func(c *cli.Context) error {
			if c.IsSet("text") == c.IsSet("vector-file") {
				return usagef("search: give --text or --vector-file")
			}
			return withStore(0, func(c *cli.Context, s *session, store *client.Client) error {
				r, err := newShardReader(c, s, store)
				if err != nil {
					return err
				}
				found, err := search(c, r)
				if err != nil {
					return err
				}
				r.note(out)
				return out.show(r.with(map[string]any{"results": found}), func(w io.Writer) {
					var lines [][]any
					for _, f := range found {
						lines = append(lines, []any{f.ID, fmt.Sprintf("%.4f", f.Score), f.Content})
					}
					rows(w, []any{"ID", "SCORE", "CONTENT"}, lines)
				})
			})(c)
		},
	}
}

func search(c *cli.Context, r *shardReader) ([]nearJSON, error) {
	attributes, err := attributesOf(c)
	if err != nil {
		return nil, err
	}
	q := &transport.VectorSearch{K: uint32(min(c.Uint("k"), transport.MaxK+1)), EFSearch: uint32(min(c.Uint("ef"), transport.MaxEF+1)),
		Exact: c.Bool("exact"), Attributes: attributes, Tags: c.StringSlice("tag")}
	if q.QueryVector, err = queryVector(c, r.s, r.store); err != nil {
		return nil, err
	}
	near, err := read[transport.VectorSearchOk](r, q)
	if err != nil || len(near.Results) == 0 {
		return []nearJSON{}, err
	}
	return contents(r, near.Results)
}

// contents reads what the concepts that were found say.
func contents(r *shardReader, results []transport.VectorResult) ([]nearJSON, error) {
	reads := make([]any, len(results))
	for i, near := range results {
		reads[i] = r.query(&transport.QueryConcept{ConceptID: near.ID})
	}
	concepts, err := r.store.Batch(r.s.ctx, reads...)
	if err != nil {
		return nil, err
	}
	found := make([]nearJSON, len(results))
	for i, near := range results {
		found[i] = nearJSON{ID: near.ID, Score: near.Score}
		switch reply := concepts[i].(type) {
		case *transport.QueryOk:
			if concept, is := reply.Reply.Value.(*transport.QueryConceptOk); is {
				found[i].Content = concept.Content
			}
		case error:
			return nil, fmt.Errorf("read concept %q: %w", near.ID, reply)
		}
	}
	return found, nil
}

// queryVector is the text's vector, or the file's.
func queryVector(c *cli.Context, s *session, store *client.Client) ([]float32, error) {
	if path := c.String("vector-file"); path != "" {
		return vectorFile(path)
	}
	vectors, err := store.Embed(s.ctx, c.String("text"))
	if err != nil {
		return nil, err
	}
	if len(vectors) != 1 || len(vectors[0]) == 0 {
		return nil, usagef("--text %q: there is no word in it to search for", c.String("text"))
	}
	return vectors[0], nil
}

func vectorFile(path string) ([]float32, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxVectorFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxVectorFile {
		return nil, usagef("%s has more than %d bytes: want a JSON array of numbers", path, maxVectorFile)
	}
	var v []float32
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, usagef("%s: %v: want a JSON array of numbers", path, err)
	}
	return v, nil
}
