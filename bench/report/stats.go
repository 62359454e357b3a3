package report

import (
	"math"
	"slices"
)

// Median is the middle of values, or the mean of the two middle ones; NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Comparison is what rounds of two systems in turn say.
type Comparison struct {
	Value, Peer, Ratio float64    // medians; Ratio is that of the rounds' ratios, not the ratio of the medians
	Spread             [2]float64 // lowest and highest ratio
}

// Compare takes the figures of rounds: ours[i] and peers[i] are of the same one. A round that lacks one of the two, as a figure of zero or
// NaN, has no ratio.
func Compare(ours, peers []float64) Comparison {
	var ratios []float64
	for i := range min(len(ours), len(peers)) {
		if r := ours[i] / peers[i]; ours[i] > 0 && peers[i] > 0 && !math.IsInf(r, 0) && !math.IsNaN(r) {
			ratios = append(ratios, r)
		}
	}
	c := Comparison{Value: Median(ours), Peer: Median(peers), Ratio: Median(ratios), Spread: [2]float64{math.NaN(), math.NaN()}}
	if len(ratios) > 0 {
		c.Spread = Spread(ratios)
	}
	return c
}

// Spread is the lowest and the highest of at least one value.
func Spread(values []float64) [2]float64 { return [2]float64{slices.Min(values), slices.Max(values)} }

// Of is a figure as a row has it: rounded to four digits, null when there is none.
func Of(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	v = round(v)
	return &v
}

// round keeps four digits: what is behind them is noise.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Set writes a comparison into the row.
func (r *Row) Set(c Comparison) {
	r.Value, r.Peer, r.Ratio, r.Spread = Of(c.Value), Of(c.Peer), Of(c.Ratio), nil
	if lo, hi := Of(c.Spread[0]), Of(c.Spread[1]); lo != nil && hi != nil {
		r.Spread = &[2]float64{*lo, *hi}
	}
}

// SetAlone writes the rounds of a row that has no peer.
func (r *Row) SetAlone(values []float64) {
	r.Value, r.Peer, r.Ratio, r.Spread = Of(Median(values)), nil, nil, nil
	if len(values) > 0 {
		s := Spread(values)
		r.Spread = &[2]float64{round(s[0]), round(s[1])}
	}
}
