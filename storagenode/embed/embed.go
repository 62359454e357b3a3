package embed

import (
	"context"
	"unicode/utf8"
)

// DefaultDimension is the components of a vector when nothing else is set (wire specification, "Server-side embeddings").
const DefaultDimension = 768

// Embedder makes vectors of texts.
type Embedder interface {
	// Embed gives one vector per text, in order, each of Dimension finite components and the caller's own. A text without
	// anything to embed has a nil vector: a vector of zeros would have no direction, and cosine needs one. Long texts are
	// embedded by their beginning. All or nothing: the error is an *event.Error. Safe for concurrent use.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// Dimension is the components of every vector, and never changes.
	Dimension() int
}

// beginning is at most n bytes of a text, cut between two characters.
func beginning(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
