// Package vectortest makes vectors for tests and measurements of vector search. It must not be imported outside tests.
package vectortest

import "math/rand/v2"

// Clusters makes vectors as embedding models do: many clusters of different sizes and widths, overlapping, each stretched
// along a direction of its own. Equal seeds make equal vectors. One goroutine uses it.
type Clusters struct {
	r         *rand.Rand
	dimension int
	centres   [][]float32
	stretch   [][]float32
}

// NewClusters makes so many clusters.
func NewClusters(clusters, dimension int, seed uint64) *Clusters {
	c := &Clusters{r: rand.New(rand.NewPCG(seed, 1)), dimension: dimension}
	for range clusters {
		c.centres = append(c.centres, Random(c.r, dimension))
		c.stretch = append(c.stretch, Random(c.r, dimension))
	}
	return c
}

// Next is the next vector.
func (c *Clusters) Next() []float32 {
	u := c.r.Float64()
	of := int(u * u * float64(len(c.centres))) // the first clusters are large
	spread := float32(0.4 + 0.8*float64(of%7)/6)
	along := float32(c.r.NormFloat64()) / 2
	v := make([]float32, c.dimension)
	for i := range v {
		v[i] = c.centres[of][i] + spread*float32(c.r.NormFloat64()) + along*c.stretch[of][i]
	}
	return v
}

// Random is a vector without any structure.
func Random(r *rand.Rand, dimension int) []float32 {
	v := make([]float32, dimension)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}
