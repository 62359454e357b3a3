package client

import (
	"fmt"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// BenchmarkMerge is one page of 1,600 concepts from 16 shards that have 100 each.
func BenchmarkMerge(b *testing.B) {
	const shards, rows = 16, 100
	pages := make([][]transport.ConceptItem, shards)
	for n := range shards * rows {
		s := n * 7 % shards
		pages[s] = append(pages[s], transport.ConceptItem{ConceptID: fmt.Sprintf("concept-%05d", n), Content: "content", Created: float64(n)})
	}
	q := &transport.QueryByMetadata{Limit: shards * rows}
	b.ReportAllocs()
	for b.Loop() {
		m := metadataMerge(q)
		for _, p := range pages {
			if err := m.add(p, ""); err != nil {
				b.Fatal(err)
			}
		}
		if len(m.items) != shards*rows {
			b.Fatal(len(m.items))
		}
	}
}
