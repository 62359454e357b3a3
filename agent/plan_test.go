package agent

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestPlan(t *testing.T) {
	now := time.Unix(1000, 0)
	past, future := now.Add(-time.Second), now.Add(time.Second)
	for _, c := range []struct {
		name   string
		node   Actual
		room   int
		want   Verb
		awaits time.Time // zero: nothing to wait for
	}{
		{"a new node starts", Actual{Wanted: true, Phase: Stopped}, 3, Start, time.Time{}},
		{"no start while its reports have no room", Actual{Wanted: true, Phase: Stopped}, 2, "", time.Time{}},
		{"a stopped node that nobody wants", Actual{Phase: Stopped}, 99, "", time.Time{}},
		{"starting has time", Actual{Wanted: true, Phase: Starting, Due: future}, 99, "", future},
		{"starting for too long", Actual{Wanted: true, Phase: Starting, Due: now}, 99, Kill, now},
		{"starting, wanted no more", Actual{Phase: Starting, Due: future}, 99, Terminate, future},
		{"running", Actual{Wanted: true, Phase: Running, Due: past}, 99, "", time.Time{}},
		{"running, wanted no more", Actual{Phase: Running, Due: past}, 99, Terminate, time.Time{}},
		{"running, wanted no more, no room: ending needs none", Actual{Phase: Running}, 0, Terminate, time.Time{}},
		{"stopping has time", Actual{Phase: Stopping, Due: future}, 99, "", future},
		{"stopping for too long", Actual{Phase: Stopping, Due: past}, 99, Kill, past},
		{"stopping, wanted again: first it ends", Actual{Wanted: true, Phase: Stopping, Due: future}, 99, "", future},
		{"crashed, pause not over", Actual{Wanted: true, Phase: Crashed, Due: future}, 99, "", future},
		{"crashed, pause over", Actual{Wanted: true, Phase: Crashed, Due: now}, 3, Start, now},
		{"crashed, pause over, no room", Actual{Wanted: true, Phase: Crashed, Due: now}, 2, "", now},
		{"crashed too often", Actual{Wanted: true, Phase: Crashed, Due: past, LeftDown: true}, 99, "", time.Time{}},
		{"crashed, wanted no more", Actual{Phase: Crashed, Due: future}, 0, Discharge, time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.node.Node = "node-1"
			var want []Action
			if c.want != "" {
				want = []Action{{c.want, "node-1"}}
			}
			if got := plan([]Actual{c.node}, c.room, now); !slices.Equal(got, want) {
				t.Errorf("plan %v, want %v", got, want)
			}
			at, waits := wake([]Actual{c.node})
			if waits != !c.awaits.IsZero() || waits && !at.Equal(c.awaits) {
				t.Errorf("wake %v %v, want %v", at, waits, c.awaits)
			}
		})
	}
}

// A start reserves room for all it may have to report, beside what the nodes that are not stopped may.
func TestPlanReservesRoom(t *testing.T) {
	nodes := []Actual{
		{Node: "node-1", Wanted: true, Phase: Running}, {Node: "node-2", Wanted: true, Phase: Crashed},
		{Node: "node-3", Wanted: true, Phase: Stopped}, {Node: "node-4", Wanted: true, Phase: Stopped},
	}
	for room, want := range map[int][]event.NodeID{5: nil, 6: {"node-2"}, 8: {"node-2"}, 9: {"node-2", "node-3"}, 12: {"node-2", "node-3", "node-4"}} {
		var got []event.NodeID
		for _, a := range plan(nodes, room, time.Now()) {
			got = append(got, a.Node)
		}
		if !slices.Equal(got, want) {
			t.Errorf("room %d: starts %v, want %v", room, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 100).Draw(t, "failures")
		jitter := rapid.Float64Range(0, 0.999).Draw(t, "jitter")
		plain := 0.5
		for range n - 1 {
			plain = min(plain*2, 30)
		}
		want := time.Duration(min(plain*(0.75+jitter/2), 30) * float64(time.Second))
		if got := backoff(n, jitter); (got - want).Abs() > time.Microsecond {
			t.Fatalf("backoff(%d, %v) = %v, want %v", n, jitter, got, want)
		}
	})
}

func TestCrashes(t *testing.T) {
	var c crashes
	now := time.Unix(0, 0)
	fall := func(after time.Duration) (pause time.Duration, down bool) {
		now = now.Add(after)
		due, down := c.add(now, 0.5)
		return due.Sub(now), down
	}
	check := func(what string, pause, want time.Duration) {
		t.Helper()
		if pause != want {
			t.Errorf("%s: pause %v, want %v", what, pause, want)
		}
	}
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		pause, _ := fall(time.Second)
		check(fmt.Sprintf("crash %d", i+1), pause, want)
	}
	c.ready = now
	pause, _ := fall(59 * time.Second)
	check("after 59 s of health", pause, 4*time.Second)
	c.ready = now
	pause, _ = fall(60 * time.Second)
	check("after 60 s of health", pause, 500*time.Millisecond)
	pause, _ = fall(90 * time.Second)
	check("after 90 s without being ready", pause, time.Second)

	now = now.Add(time.Hour)
	c.recent = nil
	for i := range 9 {
		if _, down := fall(time.Minute); down {
			t.Fatalf("left down after %d crashes", i+1)
		}
	}
	if _, down := fall(3 * time.Minute); down { // the first is 11 minutes ago
		t.Error("left down after 9 crashes in ten minutes")
	}
	if _, down := fall(0); !down {
		t.Error("not left down after 10 crashes in ten minutes")
	}
}

func TestParsePortRange(t *testing.T) {
	for _, c := range []struct {
		text     string
		from, to uint32
	}{
		{"50053", 50053, 50152}, {"50053-50060", 50053, 50060}, {"7-7", 7, 7}, {"65500", 65500, 65535},
		{"", 0, 0}, {"0", 0, 0}, {"0-5", 0, 0}, {"9-8", 0, 0}, {"1-65536", 0, 0}, {"a", 0, 0}, {"1-", 0, 0}, {"-1", 0, 0}, {"1-2-3", 0, 0},
	} {
		r, err := ParsePortRange(c.text)
		if c.from == 0 {
			if err == nil {
				t.Errorf("%q: %v, want an error", c.text, r)
			}
			continue
		}
		if err != nil || r.From != c.from || r.To != c.to {
			t.Errorf("%q: %v, %v; want %d-%d", c.text, r, err, c.from, c.to)
		}
	}
}

func TestPickPort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint32Range(1, 20).Draw(t, "from")
		r := PortRange{From: from, To: from + rapid.Uint32Range(0, 6).Draw(t, "length")}
		preferred := rapid.Uint32Range(0, 30).Draw(t, "preferred")
		used := rapid.SliceOf(rapid.Uint32Range(0, 30)).Draw(t, "used")
		free := func(p uint32) bool { return !slices.Contains(used, p) }

		// The order in which ports are preferred, written down at length.
		var order []uint32
		if preferred != 0 {
			order = append(order, preferred)
		}
		for p := r.From; p <= r.To; p++ {
			if p > preferred && preferred >= r.From {
				order = append(order, p)
			}
		}
		for p := r.From; p <= r.To; p++ {
			order = append(order, p)
		}
		var want uint32
		if i := slices.IndexFunc(order, free); i >= 0 {
			want = order[i]
		}
		got, err := r.pick(preferred, free)
		if got != want || (err != nil) != (want == 0) {
			t.Fatalf("%v.pick(%d) with %v used: %d, %v; want %d", r, preferred, used, got, err, want)
		}
	})
}

func TestLoad(t *testing.T) {
	busy, total := cpuTicks("cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 1 1\n")
	if busy != 25 || total != 145 {
		t.Errorf("cpu %d of %d, want 25 of 145", busy, total)
	}
	if busy, total := cpuTicks("cpu x"); busy != 0 || total != 0 {
		t.Errorf("broken line: %d of %d", busy, total)
	}
	if mb := memoryUsedMB("MemTotal:  4096000 kB\nMemFree: 1 kB\nMemAvailable:  2048000 kB\n"); mb != 2000 {
		t.Errorf("memory %d MiB, want 2000", mb)
	}
	var spans loadMeter
	for i, c := range []struct {
		busy, total uint64
		want        float64
	}{{500, 1000, 0.5}, {503, 1003, 0.5}, {598, 1099, 0.5}, {575, 1100, 0.75}, {575, 1200, 0}, {10, 20, 0}} {
		if spans.span(c.busy, c.total); spans.cpu != c.want {
			t.Errorf("reading %d: load %v, want %v", i, spans.cpu, c.want)
		}
	}
	m := loadMeter{dir: t.TempDir()}
	first, second := m.read(), m.read()
	if first.MemoryMB == 0 || first.DiskMB == 0 || first.CPU < 0 || first.CPU > 1 || second.CPU < 0 || second.CPU > 1 {
		t.Errorf("load %+v, then %+v", first, second)
	}
}
