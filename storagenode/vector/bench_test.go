package vector

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sutra-grid/sutra-grid/storagenode/vector/vectortest"
)

// BenchmarkDistance is one comparison of two codes of 768 dimensions.
func BenchmarkDistance(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	codes := make([][]int16, 64)
	for i := range codes {
		codes[i] = make([]int16, stride(768))
		for j := range 768 {
			codes[i][j] = int16(r.IntN(2000) - 1000)
		}
	}
	dot := newDot()
	b.ReportAllocs()
	var sum int32
	for i := 0; b.Loop(); i++ {
		sum += dot(codes[i%64], codes[(i+1)%64])
	}
	if sum == 1 {
		b.Log("so that the products are computed")
	}
}

// benchVectors is how many vectors are searched: enough for a walk, few enough to build in a second.
const benchVectors = 6000

// BenchmarkSearch is a walk for the ten nearest of 128 dimensions, and its exact counterpart.
func BenchmarkSearch(b *testing.B) {
	const dimension = 128
	clusters := vectortest.NewClusters(50, dimension, 1)
	x := newIndex(b, Options{Dimension: dimension})
	rows := map[string][]float32{}
	changes := make([]Change, benchVectors)
	for i := range changes {
		changes[i] = Change{ID: fmt.Sprintf("v%05d", i), Vector: clusters.Next()}
		rows[changes[i].ID] = changes[i].Vector
	}
	must(b, x.Apply(1, changes))
	queries := make([][]float32, 64)
	for i := range queries {
		queries[i] = clusters.Next()
	}
	for _, exact := range []bool{false, true} {
		b.Run(fmt.Sprintf("exact=%v", exact), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				got, err := x.Search(b.Context(), Query{Vector: queries[i%64], K: 10, Exact: exact, Rows: func(id string, _ []float32) ([]float32, error) { return rows[id], nil }})
				if err != nil || len(got) != 10 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}
