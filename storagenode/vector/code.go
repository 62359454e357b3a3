package vector

import (
	"fmt"
	"math"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A code is a vector at length one in fixed point: each component times codeScale, rounded. By Cauchy and Schwarz every
// sum of products of two codes, also a partial one in a SIMD lane, stays below (codeScale + √2048/2)² < 2³¹.
const (
	codeScale = math.MaxInt16
	codeBlock = 32 // codes are padded with zeros to a multiple of this, so that the kernels need no remainder
)

// stride is the length of a code with its padding.
func stride(dimension int) int {
	return (dimension + codeBlock - 1) / codeBlock * codeBlock
}

// codeError bounds how far the dot product of two codes over codeScale² may be from the cosine of their vectors: a
// code is at most √d/2 of its units away from its vector.
func codeError(dimension int) float64 {
	d := math.Sqrt(float64(dimension)) / 2 / codeScale
	return d + (1+d)*d
}

// Validate refuses what has no direction or is none of this index: another dimension, NaN, an infinity, a vector of
// zeros. The error is an *event.Error of KindInvalid or KindTooLarge.
func Validate(v []float32, dimension int) error {
	if len(v) > transport.MaxDimension {
		return &event.Error{Kind: event.KindTooLarge, Op: "vector", Message: fmt.Sprintf("vector has %d dimensions: at most %d are allowed", len(v), transport.MaxDimension)}
	}
	if len(v) != dimension {
		return invalid("vector has %d dimensions: those of this index have %d", len(v), dimension)
	}
	zero := true
	for i, f := range v {
		if f-f != 0 { // NaN or infinite
			return invalid("component %d of the vector is %v: it must be finite", i, f)
		}
		zero = zero && f == 0
	}
	if zero {
		return invalid("the vector is zero: it has no direction, and so no cosine to any other")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &event.Error{Kind: event.KindInvalid, Op: "vector", Message: fmt.Sprintf(format, args...)}
}

// encode writes v's code to code, whose padding is zero. Validate has accepted v.
func encode(code []int16, v []float32) {
	scale := codeScale / math.Sqrt(product(v, v))
	for i, f := range v {
		code[i] = int16(math.Round(float64(f) * scale))
	}
}

// Cosine is the similarity of two vectors of equal length, -1 to 1, that Validate accepts. It is computed in float64 in one fixed
// order without fused operations, so it is the same number on every machine.
func Cosine(a, b []float32) float32 {
	return cosine(product(a, b), product(a, a), product(b, b))
}

func cosine(ab, aa, bb float64) float32 {
	return float32(min(max(ab/(math.Sqrt(aa)*math.Sqrt(bb)), -1), 1))
}

// product is the dot product. The conversions forbid the compiler to fuse multiplication and addition.
func product(a, b []float32) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	for len(a) >= 4 && len(b) >= 4 {
		s0 += float64(float64(a[0]) * float64(b[0]))
		s1 += float64(float64(a[1]) * float64(b[1]))
		s2 += float64(float64(a[2]) * float64(b[2]))
		s3 += float64(float64(a[3]) * float64(b[3]))
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s0 += float64(float64(a[i]) * float64(b[i]))
	}
	return (s0 + s1) + (s2 + s3)
}
