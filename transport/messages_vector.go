package transport

import (
	"cmp"
	"strings"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

type (
	// VectorSearch asks for the concepts whose vectors are nearest to a query by cosine. The filter and Exact are extensions,
	// which a Sutra client never sends.
	VectorSearch struct {
		QueryVector []float32         `wire:"query_vector"`        // of the grid's dimension, finite, not zero
		K           uint32            `wire:"k"`                   // results, 1 to 1,000
		EFSearch    uint32            `wire:"ef_search"`           // candidates, at most 10,000: more find more; 0: 64, below k: k
		Attributes  map[string]string `wire:"attributes,optional"` // only concepts with all of them, at most 100
		Tags        []string          `wire:"tags,optional"`       // only concepts with all of them, at most 100
		Exact       bool              `wire:"exact,optional"`      // compare with every vector that may be a result
	}
	// VectorSearchOk has the nearest first: by score, then by id. There are fewer than K when fewer have a vector.
	VectorSearchOk struct {
		Results []VectorResult `wire:"results"`
	}
	// VectorResult is a concept and the cosine of its vector with the query, -1 to 1; on the wire a two-element array.
	VectorResult struct {
		ID    string
		Score float32
	}
)

// AppendPack writes the result by position.
func (v VectorResult) AppendPack(b []byte) ([]byte, error) {
	return pack.AppendFloat32(pack.AppendString(pack.AppendArrayHeader(b, 2), v.ID), v.Score), nil
}

// UnpackFrom reads what AppendPack wrote; further elements are skipped.
func (v *VectorResult) UnpackFrom(r *pack.Reader) error {
	n, err := r.ArrayLen()
	if err != nil {
		return err
	}
	if n < 2 {
		return invalid("a result has %d elements: want an id and a score", n)
	}
	if v.ID, err = r.String(); err != nil {
		return err
	}
	score, err := r.Float()
	if err != nil {
		return err
	}
	v.Score = float32(score)
	for range n - 2 {
		if err := r.Skip(); err != nil {
			return err
		}
	}
	r.Leave()
	return nil
}

// Compare orders results: the nearest first, equally near ones by id. So what is merged over shards has one order.
func (v VectorResult) Compare(w VectorResult) int {
	return cmp.Or(cmp.Compare(w.Score, v.Score), strings.Compare(v.ID, w.ID))
}
