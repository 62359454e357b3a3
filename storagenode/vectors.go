package storagenode

import (
	"context"
	"path/filepath"

	"github.com/sutra-grid/sutra-grid/storagenode/nearest"
	"github.com/sutra-grid/sutra-grid/transport"
)

// openVectors starts to keep a replica's vector index, which is stored in the replica's directory.
func (n *Node) openVectors(r *replica, dir string) *nearest.Keeper {
	return nearest.Open(nearest.Config{
		Engine: r.engine, Dimension: int(n.cfg.Dimension), Path: filepath.Join(dir, vectorsFile), Building: n.replicas.building,
		Reports: r.vectorReports(), Log: r.log,
	})
}

// vectorReports tells the log and the feed.
func (r *replica) vectorReports() nearest.Reports {
	return nearest.Reports{
		Built: func(b nearest.Built) {
			r.log.Info("vector index built", "vector_count", b.Vectors, "build_time_ms", b.Took.Milliseconds(), "dimension", b.Dimension)
			r.readings.indexBuilt(r.shard, b)
		},
		Loaded: func(l nearest.Loaded) {
			r.log.Info("vector index loaded", "vector_count", l.Vectors, "load_time_ms", l.Took.Milliseconds(), "persisted", true, "applied", l.Applied)
			r.readings.indexLoaded(r.shard, l)
		},
	}
}

// nearest answers VectorSearch from this replica.
func (r *replica) nearest(ctx context.Context, q *transport.VectorSearch) (any, error) {
	results, err := r.vector.Search(ctx, q)
	if err != nil {
		return nil, err
	}
	if results == nil {
		results = []transport.VectorResult{}
	}
	return &transport.VectorSearchOk{Results: results}, nil
}
