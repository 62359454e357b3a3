package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/transport"
)

// shardReadFlags are the flags of the commands that read from one shard, behind their own.
func shardReadFlags(own ...cli.Flag) []cli.Flag {
	return slices.Concat(own, []cli.Flag{
		&cli.StringFlag{Name: "consistency", Value: client.Linearizable,
			Usage: "linearizable (nothing acknowledged is missing) or stale (any replica, the quickest one)"},
	})
}

// fanOutFlags are those of the commands that read from all shards.
func fanOutFlags(own ...cli.Flag) []cli.Flag {
	return shardReadFlags(append(own, &cli.BoolFlag{Name: "partial",
		Usage: "leave out shards that cannot answer: they are named on standard error and in the JSON, and the exit status is 0"})...)
}

// shardReader reads as the flags say, and keeps which shards were left out.
type shardReader struct {
	s           *session
	store       *client.Client
	partial     bool
	consistency string
	missing     []transport.MissingShard // of all reads, each shard once
}

func newShardReader(c *cli.Context, s *session, store *client.Client) (*shardReader, error) {
	r := &shardReader{s: s, store: store, partial: c.Bool("partial"), consistency: c.String("consistency"), missing: []transport.MissingShard{}}
	if r.consistency != client.Linearizable && r.consistency != client.Stale {
		return nil, usagef("--consistency %q: want %s or %s", r.consistency, client.Linearizable, client.Stale)
	}
	return r, nil
}

func (r *shardReader) query(req any) *transport.Query {
	return &transport.Query{Request: transport.Any{Value: req}, Partial: r.partial, Consistency: r.consistency}
}

// leftOut notes the shards that an answer is without.
func (r *shardReader) leftOut(missing []transport.MissingShard) {
	for _, m := range missing {
		if !slices.ContainsFunc(r.missing, func(have transport.MissingShard) bool { return have.ShardID == m.ShardID }) {
			r.missing = append(r.missing, m)
		}
	}
}

// read asks as the flags say and returns the typed reply.
func read[T any](r *shardReader, req any) (*T, error) {
	ok, err := r.store.Query(r.s.ctx, r.query(req))
	if err != nil {
		return nil, err
	}
	r.leftOut(ok.Missing)
	t, is := ok.Reply.Value.(*T)
	if !is {
		return nil, unexpected(req, ok.Reply.Value)
	}
	return t, nil
}

// with adds to the JSON of an answer what it is without; of a command that was told --partial it always says so.
func (r *shardReader) with(body map[string]any) map[string]any {
	if r.partial {
		body["missing"] = r.missing
	}
	return body
}

// note says on standard error what an answer is without.
func (r *shardReader) note(out *printer) {
	for _, m := range r.missing {
		fmt.Fprintf(out.errw, "gridctl: incomplete, without %s: %s\n", m.ShardID, oneLine(m.Message))
	}
}
