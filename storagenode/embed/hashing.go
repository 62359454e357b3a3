package embed

import (
	"context"
	"fmt"
	"math"
	"strings"
	"unicode"

	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// MaxHashedText is how many bytes of a text the built-in embedder reads. A text's subject is in its beginning; more would
// cost time in proportion and change the direction little.
const MaxHashedText = 64 << 10

// Hashing is the built-in embedder: signed feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask
// Learning", 2009) of words and of their parts. It finds texts that share words or stems; it knows no synonyms.
//
// The recipe, which never changes:
//
//  1. The first MaxHashedText bytes. What is not UTF-8 separates words.
//  2. Words are the longest runs of letters, digits and combining marks, each character in its lower case.
//  3. Features, with their weights: each word ("w" and the word): 1, of one or two characters 1/4; each pair of neighbouring
//     words ("p", first, a space, second): 1/4; each run of 3 and of 4 characters of "<word>", for words of 3 and more
//     ("c" and the run): 1/2.
//  4. A feature's hash is its murmur3 (x86, 32 bits, seed 0). The top bit is the sign, set: minus; the other 31 modulo the
//     dimension are the component. A feature that occurs n times counts its weight times the square root of n.
//  5. The sum is divided by its Euclidean length.
//
// Sums are made in the order in which features first occur and in float64 without fused operations, so that every machine
// computes the same bits.
type Hashing struct{ dimension int }

// NewHashing makes the built-in embedder for vectors of this many components, at least 1.
func NewHashing(dimension int) (*Hashing, error) {
	if dimension < 1 {
		return nil, fmt.Errorf("embed: dimension %d: want at least 1", dimension)
	}
	return &Hashing{dimension}, nil
}

// Dimension is the components of every vector.
func (h *Hashing) Dimension() int { return h.dimension }

// Embed never fails but by ctx's end.
func (h *Hashing) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, stopped(err)
		}
		vectors[i] = h.vector(text)
	}
	return vectors, nil
}

// The weights of features.
const (
	wordWeight      = 1
	shortWordWeight = 0.25 // mostly articles and prepositions
	pairWeight      = 0.25
	partWeight      = 0.5
)

// vector is one text's; nil when it has no words.
func (h *Hashing) vector(text string) []float32 {
	f := features{count: map[uint32]int{}}
	f.read(beginning(text, MaxHashedText))
	if len(f.order) == 0 {
		return nil
	}
	sum := make([]float64, h.dimension)
	for _, x := range f.order {
		value := float64(x.weight * math.Sqrt(float64(f.count[x.hash])))
		if x.hash>>31 == 1 {
			value = -value
		}
		sum[int(x.hash&math.MaxInt32)%h.dimension] += value
	}
	return unit(sum)
}

// unit is v divided by its length. When the features cancel each other out there is no direction: nil.
func unit(v []float64) []float32 {
	var square float64
	for _, x := range v {
		square += float64(x * x) // the conversion forbids a fused multiply-add
	}
	if square == 0 {
		return nil
	}
	length := math.Sqrt(square)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x / length)
	}
	return out
}

// features collects a text's features in the order in which they first occur.
type features struct {
	order []feature
	count map[uint32]int
}

type feature struct {
	hash   uint32
	weight float64
}

func (f *features) add(kind, name string, weight float64) {
	hash := shardmap.Hash(kind + name)
	if f.count[hash]++; f.count[hash] == 1 {
		f.order = append(f.order, feature{hash, weight})
	}
}

func (f *features) read(text string) {
	before := ""
	for _, word := range words(text) {
		letters := []rune(word)
		if len(letters) < 3 {
			f.add("w", word, shortWordWeight)
		} else {
			f.add("w", word, wordWeight)
			f.parts(letters)
		}
		if before != "" {
			f.add("p", before+" "+word, pairWeight)
		}
		before = word
	}
}

// parts adds the runs of 3 and 4 characters.
func (f *features) parts(word []rune) {
	marked := append(append([]rune{'<'}, word...), '>')
	for _, n := range []int{3, 4} {
		for i := 0; i+n <= len(marked); i++ {
			f.add("c", string(marked[i:i+n]), partWeight)
		}
	}
}

// words splits a text; invalid bytes read as U+FFFD, which is no letter.
func words(text string) []string {
	found := strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
	for i, w := range found {
		found[i] = strings.Map(unicode.ToLower, w)
	}
	return found
}
