package graphwalk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// graph is a small directed graph, both ways.
type graph struct {
	out, in map[string][]string
	known   map[string]bool
	asked   int
}

func newGraph(n int, edges [][2]int) *graph {
	g := &graph{out: map[string][]string{}, in: map[string][]string{}, known: map[string]bool{}}
	for i := range n {
		g.known[name(i)] = true
	}
	for _, e := range edges {
		a, b := name(e[0]), name(e[1])
		if !slices.Contains(g.out[a], b) {
			g.out[a], g.in[b] = append(g.out[a], b), append(g.in[b], a)
		}
	}
	return g
}

func name(i int) string { return fmt.Sprintf("c%d", i) }

func (g *graph) expand(_ context.Context, ids []string, direction string) ([][]string, []bool, error) {
	g.asked++
	from := g.out
	if direction == In {
		from = g.in
	}
	var neighbors [][]string
	var known []bool
	for _, id := range ids {
		neighbors, known = append(neighbors, from[id]), append(known, g.known[id])
	}
	return neighbors, known, nil
}

// dumbDistance is plain breadth-first search; -1 for no path.
func (g *graph) dumbDistance(a, b string) int {
	dist := map[string]int{a: 0}
	for queue := []string{a}; len(queue) > 0; queue = queue[1:] {
		for _, n := range g.out[queue[0]] {
			if _, seen := dist[n]; !seen {
				dist[n] = dist[queue[0]] + 1
				queue = append(queue, n)
			}
		}
	}
	if d, ok := dist[b]; ok && g.known[a] {
		return d
	}
	return -1
}

func TestShortestPathAgainstPlainSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "n")
		node := rapid.IntRange(0, n) // n itself is unknown
		edge := rapid.Custom(func(t *rapid.T) [2]int {
			return [2]int{rapid.IntRange(0, n-1).Draw(t, "a"), rapid.IntRange(0, n-1).Draw(t, "b")}
		})
		g := newGraph(n, rapid.SliceOfN(edge, 0, 60).Draw(t, "edges"))
		a, b := name(node.Draw(t, "start")), name(node.Draw(t, "end"))
		depth := rapid.IntRange(0, MaxDepth).Draw(t, "depth")
		path, found, err := ShortestPath(t.Context(), a, b, depth, g.expand)
		if err != nil {
			t.Fatal(err)
		}
		want := g.dumbDistance(a, b)
		if found != (want >= 0 && want <= depth) {
			t.Fatalf("found %v, distance %d, depth %d", found, want, depth)
		}
		if !found {
			return
		}
		if len(path) != want+1 || path[0] != a || path[len(path)-1] != b {
			t.Fatalf("path %v, distance %d", path, want)
		}
		for i := range path[1:] {
			if !slices.Contains(g.out[path[i]], path[i+1]) {
				t.Fatalf("path %v: no edge %s -> %s", path, path[i], path[i+1])
			}
		}
		if again, _, err := ShortestPath(t.Context(), a, b, depth, g.expand); err != nil || !slices.Equal(again, path) {
			t.Fatalf("not the same twice: %v, %v, %v", path, again, err)
		}
	})
}

func TestHubIsMetFromTheSmallSide(t *testing.T) {
	var edges [][2]int
	for i := 2; i < 50_000; i++ {
		edges = append(edges, [2]int{0, i})
	}
	g := newGraph(1, nil)
	for _, e := range edges {
		a, b := name(e[0]), name(e[1])
		g.out[a], g.in[b] = append(g.out[a], b), append(g.in[b], a)
		g.known[a], g.known[b] = true, true
	}
	last := name(49_999)
	g.out[last], g.in["end"] = []string{"end"}, []string{last}
	g.known["end"] = true
	path, found, err := ShortestPath(context.Background(), name(0), "end", 3, g.expand)
	if err != nil || !found || len(path) != 3 {
		t.Fatalf("path %v, %v, %v", path, found, err)
	}
	if g.asked > 3 {
		t.Errorf("%d questions for a path of two edges", g.asked)
	}
}

// TestALevelIsOneQuestion: however many ids it has, up to MaxAsk; a larger one is cut.
func TestALevelIsOneQuestion(t *testing.T) {
	for _, tt := range []struct{ width, want int }{{40_000, 3}, {MaxAsk + 1, 4}} {
		g := newGraph(2, nil)
		hub, far := name(0), "far"
		g.known[far] = true
		for i := range tt.width {
			n := fmt.Sprintf("n%d", i)
			g.known[n], g.out[hub], g.in[n] = true, append(g.out[hub], n), []string{hub}
		}
		// The far side is as wide at once, so that the wide level has to be asked about.
		for i := range tt.width + 1 {
			g.in[far] = append(g.in[far], fmt.Sprintf("m%d", i))
		}
		last := fmt.Sprintf("n%d", tt.width-1)
		g.out[last] = []string{"m0"}
		path, found, err := ShortestPath(t.Context(), hub, far, MaxDepth, g.expand)
		if err != nil || !found || !slices.Equal(path, []string{hub, last, "m0", far}) {
			t.Fatalf("%v, %v, %v", path, found, err)
		}
		if g.asked != tt.want {
			t.Errorf("%d questions for three levels, one of %d ids", g.asked, tt.width)
		}
	}
}

func TestErrors(t *testing.T) {
	g := newGraph(2, [][2]int{{0, 1}})
	if _, _, err := ShortestPath(context.Background(), "a", "b", MaxDepth+1, g.expand); err == nil {
		t.Error("a depth over the limit is accepted")
	}
	broken := errors.New("shard away")
	_, _, err := ShortestPath(context.Background(), "a", "b", 3, func(context.Context, []string, string) ([][]string, []bool, error) { return nil, nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	_, _, err = ShortestPath(context.Background(), "a", "b", 3, func(context.Context, []string, string) ([][]string, []bool, error) { return nil, nil, nil })
	if err == nil {
		t.Error("an answer that is too short is accepted")
	}
	wide := func(_ context.Context, ids []string, d string) ([][]string, []bool, error) {
		neighbors, known := make([][]string, len(ids)), make([]bool, len(ids))
		for i, id := range ids {
			for j := range 30 {
				neighbors[i] = append(neighbors[i], fmt.Sprintf("%s%s.%d", d, id, j))
			}
		}
		return neighbors, known, nil
	}
	if _, _, err := ShortestPath(context.Background(), "a", "b", MaxDepth, wide); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless graph gives %v", err)
	}
}
