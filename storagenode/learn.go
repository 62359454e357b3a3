package storagenode

import (
	"context"
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/learn"
	"github.com/sutra-grid/sutra-grid/storagenode/embed"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/transport"
)

// newEmbedder makes the configured embedder. A service's state goes to the log and into the feed.
func (n *Node) newEmbedder() (embed.Embedder, error) {
	if n.cfg.Embedding.URL == "" {
		return embed.NewHashing(int(n.cfg.Dimension))
	}
	cfg := n.cfg.Embedding
	cfg.Dimension, cfg.Instance = int(n.cfg.Dimension), string(n.cfg.nodeID())
	cfg.SampleEvery = embeddingEvery
	cfg.Reports = embed.Reports{
		Healthy: func(h embed.Healthy) {
			n.readings.embedderHealthy(h)
			n.log.Info("embedding service answers", "endpoint", h.Endpoint, "success_rate", h.SuccessRate, "cache_hit_rate", h.CacheHitRate)
		},
		Degraded: func(d embed.Degraded) {
			n.readings.embedderDegraded(d)
			n.log.Warn("embedding service is degraded", "endpoint", d.Endpoint, "error_rate", d.ErrorRate, "reason", d.Reason)
		},
		Latency: func(l embed.Latency) {
			n.readings.embedded(l)
			n.log.Debug("embedded", "texts", l.BatchSize, "latency", l.Latency, "cache_hit", l.CacheHit)
		},
	}
	return embed.NewEndpoint(cfg)
}

// learns tells the requests that are a look and a write, and are no write by themselves.
func learns(req any) bool {
	switch req.(type) {
	case *transport.LearnConceptV2, *transport.LearnBatch:
		return true
	}
	return false
}

// learn answers LearnConceptV2 and LearnBatch in a shard that has everything. Each write has a request id of its own, made
// before its first attempt; a repeated request finds its concepts by their ids, which are those of their contents.
func (n *Node) learn(ctx context.Context, r *replica, req any) (outcome, error) {
	var index atomic.Uint64
	s := learn.Store{
		Embed: n.embedder.Embed,
		Exists: func(ctx context.Context, ids []string) (known []bool, err error) {
			_, err = r.rows(ctx, false, ids, func() (err error) {
				known, err = existing(r.engine, ids)
				return err
			})
			return known, err
		},
		Write: func(ctx context.Context, ops []transport.Op) error {
			w := &writing{issued: time.Now().UnixMicro(), ops: ops}
			rand.Read(w.id[:])
			a, err := r.write(ctx, w)
			for seen := index.Load(); a.Seq > seen && !index.CompareAndSwap(seen, a.Seq); seen = index.Load() {
			}
			return err
		},
	}
	switch q := req.(type) {
	case *transport.LearnConceptV2:
		id, err := learn.One(ctx, s, q.Content, transport.LearnOptionsOf(q.Options))
		return outcome{&transport.LearnConceptV2Ok{ConceptID: id}, index.Load()}, err
	case *transport.LearnBatch:
		ids, err := learn.Many(ctx, s, q.Contents, transport.LearnOptionsOf(q.Options))
		return outcome{&transport.LearnBatchOk{ConceptIDs: ids}, index.Load()}, err
	}
	return outcome{}, unsupported(req)
}

func exists(e *engine.Engine, q *transport.Exists) (any, error) {
	known, err := existing(e, q.ConceptIDs)
	return &transport.ExistsOk{Known: known}, err
}

func existing(e *engine.Engine, ids []string) ([]bool, error) {
	known := make([]bool, len(ids))
	for i, id := range ids {
		var err error
		if known[i], err = e.Exists(id); err != nil {
			return nil, err
		}
	}
	return known, nil
}
