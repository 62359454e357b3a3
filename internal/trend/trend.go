// Package trend says whether a series of readings rises.
//
//	readings -> Lowest of each window -> Slope
//
// Both ignore what is loud and means nothing: memory that goes up and down between two collections, a reading taken in a bad moment.
// It imports nothing of ours.
package trend

import (
	"slices"
	"time"
)

// Point is one reading.
type Point struct {
	At    time.Duration // since the series began
	Value float64
}

// Lowest is the lowest point of each window that has one, in order of time: what is left of a sawtooth is what it stands on. The points
// must be in that order, window over 0.
func Lowest(points []Point, window time.Duration) []Point {
	var low []Point
	last := time.Duration(-1)
	for _, p := range points {
		switch in := p.At / window; {
		case in != last:
			low, last = append(low, p), in
		case p.Value < low[len(low)-1].Value:
			low[len(low)-1] = p
		}
	}
	return low
}

// Slope is how much the values rise in an hour: the median of the slopes between any two points (Theil 1950, Sen 1968). Unlike the line
// of least squares it stays what it is as long as fewer than 29 % of the points are wrong, however wrong they are. Fewer than two points
// have none: 0. It looks at all pairs, so a series of more than a thousand points is for Lowest first.
func Slope(points []Point) float64 {
	var all []float64
	for i, p := range points {
		for _, q := range points[i+1:] {
			if d := (q.At - p.At).Hours(); d > 0 {
				all = append(all, (q.Value-p.Value)/d)
			}
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	middle := len(all) / 2
	if len(all)%2 == 1 {
		return all[middle]
	}
	return (all[middle-1] + all[middle]) / 2
}
