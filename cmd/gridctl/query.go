package main

import (
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/transport"
)

// foundJSON is one line of `gridctl query`.
type foundJSON struct {
	conceptJSON
	Version  uint64  `json:"version"`
	Created  float64 `json:"created"` // unix seconds
	Modified float64 `json:"modified"`
}

func queryCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "query", Usage: "the concepts with all of the attributes and tags, in the order of their creation", ArgsUsage: " ",
		Flags: fanOutFlags(
			&cli.StringSliceFlag{Name: "attribute", Aliases: []string{"attr", "a"}, Usage: "key=value; may be repeated"},
			&cli.StringSliceFlag{Name: "tag", Usage: "may be repeated"},
			&cli.TimestampFlag{Name: "from", Layout: time.RFC3339Nano, Usage: "created at or after, RFC 3339"},
			&cli.TimestampFlag{Name: "to", Layout: time.RFC3339Nano, Usage: "created before, RFC 3339"},
			&cli.StringFlag{Name: "order", Value: "asc", Usage: "asc or desc"},
			&cli.UintFlag{Name: "limit", Value: 100, Usage: "at most this many; 0 for all"},
		),
		Action: withStore(0, func(c *cli.Context, s *session, store *client.Client) error {
			r, err := newShardReader(c, s, store)
			if err != nil {
				return err
			}
			found, err := query(c, r)
			if err != nil {
				return err
			}
			r.note(out)
			return out.show(r.with(map[string]any{"concepts": found}), func(w io.Writer) { showFound(w, found) })
		}),
	}
}

func showFound(w io.Writer, found []foundJSON) {
	var lines [][]any
	for _, f := range found {
		created := time.UnixMicro(transport.Micros(f.Created)).UTC().Format(time.RFC3339Nano)
		lines = append(lines, []any{f.ID, created, f.Version, strings.Join(f.Tags, ","), f.Content})
	}
	rows(w, []any{"ID", "CREATED", "VERSION", "TAGS", "CONTENT"}, lines)
}

func query(c *cli.Context, r *shardReader) ([]foundJSON, error) {
	attributes, err := attributesOf(c)
	if err != nil {
		return nil, err
	}
	limit := c.Uint("limit")
	req := &transport.QueryByMetadata{Attributes: attributes, Tags: c.StringSlice("tag"), Order: c.String("order"),
		From: seconds(c.Timestamp("from")), To: seconds(c.Timestamp("to"))}
	found := []foundJSON{}
	for {
		if limit > 0 {
			req.Limit = uint32(min(limit-uint(len(found)), 1000))
		}
		page, err := read[transport.QueryByMetadataOk](r, req)
		if err != nil {
			return nil, err
		}
		for _, i := range page.Items {
			f := foundJSON{conceptJSON: conceptJSON{ID: i.ConceptID, Content: i.Content, Strength: &i.Strength, Confidence: &i.Confidence},
				Version: i.Version, Created: i.Created, Modified: i.Modified}
			if i.Metadata != nil {
				f.Attributes, f.Tags = i.Metadata.Attributes, i.Metadata.Tags
			}
			found = append(found, f)
		}
		if page.Cursor == "" || limit > 0 && uint(len(found)) >= limit {
			return found, nil
		}
		req.Cursor = page.Cursor
	}
}

func seconds(t *time.Time) *float64 {
	if t == nil {
		return nil
	}
	s := transport.Seconds(t.UnixMicro())
	return &s
}

// attributesOf reads the flags --attribute key=value.
func attributesOf(c *cli.Context) (map[string]string, error) {
	attributes := map[string]string{}
	for _, a := range c.StringSlice("attribute") {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, usagef("--attribute %q: want key=value", a)
		}
		attributes[k] = v
	}
	return attributes, nil
}
