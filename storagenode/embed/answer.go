package embed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// readAnswer reads the body of an answer to n texts: {"data": [{"index": 0, "embedding": [..]}, ..]}. Vectors are put in the
// order of the texts by their index. An answer is refused when an index is missing, twice or out of bounds, when a vector has
// another dimension, a component that is no finite float32, or only zeros.
func readAnswer(body []byte, n, dimension int) ([][]float32, error) {
	var answer struct {
		Data []struct {
			Index     *int            `json:"index"`
			Embedding json.RawMessage `json:"embedding"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("is not the expected JSON: %w", err)
	}
	if len(answer.Data) != n {
		return nil, fmt.Errorf("has %d vectors for %d texts", len(answer.Data), n)
	}
	vectors := make([][]float32, n)
	for i, d := range answer.Data {
		if d.Index == nil || *d.Index < 0 || *d.Index >= n || vectors[*d.Index] != nil {
			return nil, fmt.Errorf("has no, another vector's or an impossible index at data[%d]", i)
		}
		v, err := readVector(d.Embedding, dimension)
		if err != nil {
			return nil, fmt.Errorf("has a bad vector at data[%d]: %w", i, err)
		}
		vectors[*d.Index] = v
	}
	return vectors, nil
}

func readVector(raw json.RawMessage, dimension int) ([]float32, error) {
	var components []float64
	if err := json.Unmarshal(raw, &components); err != nil {
		return nil, err
	}
	if len(components) != dimension {
		return nil, fmt.Errorf("%d components instead of %d: is it the right model?", len(components), dimension)
	}
	if bytes.Contains(raw, []byte("null")) { // which reads as 0
		return nil, errors.New("a component is null")
	}
	v := make([]float32, dimension)
	zero := true
	for i, x := range components {
		if v[i] = float32(x); math.IsInf(float64(v[i]), 0) || math.IsNaN(x) {
			return nil, fmt.Errorf("component %d is %v", i, x)
		}
		zero = zero && v[i] == 0
	}
	if zero {
		return nil, errors.New("all components are zero")
	}
	return v, nil
}
