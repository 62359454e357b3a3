package trend

import (
	"math"
	"slices"
	"testing"
	"time"
)

func at(minutes float64, value float64) Point {
	return Point{time.Duration(minutes * float64(time.Minute)), value}
}

func TestLowest(t *testing.T) {
	got := Lowest([]Point{at(0, 5), at(0.5, 3), at(0.9, 4), at(1, 7), at(4.5, 2), at(4.6, 9)}, time.Minute)
	if want := []Point{at(0.5, 3), at(1, 7), at(4.5, 2)}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if Lowest(nil, time.Minute) != nil {
		t.Error("nothing has a window")
	}
}

// TestSlope: a line's, whatever a quarter of its points say; and none where there is no line.
func TestSlope(t *testing.T) {
	var line []Point
	for i := range 60 {
		line = append(line, at(float64(i), 100+2*float64(i)))
	}
	if got := Slope(line); math.Abs(got-120) > 1e-6 {
		t.Errorf("%v an hour, want 120", got)
	}
	for i := 0; i < len(line); i += 4 {
		line[i].Value = 1e9
	}
	if got := Slope(line); math.Abs(got-120) > 60 {
		t.Errorf("with a quarter of the points wrong: %v an hour, want about 120", got)
	}
	for _, few := range [][]Point{nil, {at(1, 1)}, {at(1, 1), at(1, 5)}} {
		if got := Slope(few); got != 0 {
			t.Errorf("%v: %v", few, got)
		}
	}
	if got := Slope([]Point{at(0, 1), at(60, 2), at(120, 9)}); got != 4 { // of 1, 4 and 7
		t.Errorf("of three points: %v, want the median of their slopes", got)
	}
}
