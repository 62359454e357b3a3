package client

import (
	"context"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/learn"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxEmbedText is how many bytes of a content are sent to be embedded: what the built-in embedder reads, and more than
// services do.
const maxEmbedText = 64 << 10

// learnConcept answers LearnConceptV2 over all shards.
func (c *Client) learnConcept(ctx context.Context, r *transport.LearnConceptV2) (any, error) {
	id, err := learn.One(ctx, c.learning(), r.Content, transport.LearnOptionsOf(r.Options))
	if err != nil {
		return nil, err
	}
	return &transport.LearnConceptV2Ok{ConceptID: id}, nil
}

// learnBatch answers LearnBatch over all shards.
func (c *Client) learnBatch(ctx context.Context, r *transport.LearnBatch) (any, error) {
	ids, err := learn.Many(ctx, c.learning(), r.Contents, transport.LearnOptionsOf(r.Options))
	if err != nil {
		return nil, err
	}
	return &transport.LearnBatchOk{ConceptIDs: ids}, nil
}

// learning is the grid as a store to learn into. A node embeds, the shards of candidates say which exist, and a write that
// touches several shards is a transaction.
func (c *Client) learning() learn.Store {
	return learn.Store{
		Embed:  c.embed,
		Exists: c.existing,
		Write:  c.writeOps,
	}
}

// embed asks any replica of a shard that the texts may belong to.
func (c *Client) embed(ctx context.Context, texts []string) ([][]float32, error) {
	m, err := c.shardMap(ctx)
	if err != nil {
		return nil, err
	}
	shard, err := m.Shard(transport.ConceptIDOf(texts[0]))
	if err != nil {
		return nil, err
	}
	req := &transport.Embed{Texts: make([]string, len(texts))}
	for i, t := range texts {
		req.Texts[i] = strings.ToValidUTF8(t[:min(len(t), maxEmbedText)], " ")
	}
	routed, err := c.Shard(ctx, shard.ID, ShardRequest{Consistency: Stale, Request: req})
	if err != nil {
		return nil, err
	}
	ok, err := typed[transport.EmbedOk](req, routed.Reply.Value)
	if err != nil {
		return nil, err
	}
	return ok.Embeddings, nil
}

// existing asks each shard for its part of the ids.
func (c *Client) existing(ctx context.Context, ids []string) ([]bool, error) {
	r := c.reading()
	return byOwner(ctx, r, ids, func(ctx context.Context, shard event.ShardID, ids []string) ([]bool, error) {
		ok, err := part[transport.ExistsOk](ctx, r, shard, &transport.Exists{ConceptIDs: ids})
		if err != nil {
			return nil, err
		}
		return ok.Known, nil
	})
}

// writeOps commits operations atomically: in one shard directly, else as a transaction.
func (c *Client) writeOps(ctx context.Context, ops []transport.Op) error {
	m, err := c.shardMap(ctx)
	if err != nil {
		return err
	}
	shard, err := m.Shard(ops[0].ID)
	if err != nil {
		return err
	}
	for _, op := range ops {
		if op.Target == "" {
			continue
		}
		other, err := m.Shard(op.Target)
		if err != nil {
			return err
		}
		if other.ID != shard.ID {
			_, err := c.runTxn(ctx, &transport.Txn{Ops: ops})
			return err
		}
	}
	_, err = ask[transport.WriteOk](ctx, c, shard.ID, &transport.Write{Ops: ops})
	return err
}
