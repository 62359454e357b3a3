package main

import (
	"strings"
	"testing"
)

func TestParseMemory(t *testing.T) {
	for text, want := range map[string]int64{"64MiB": 64 << 20, "65536KiB": 64 << 20, "2GiB": 2 << 30} {
		if got, err := parseMemory(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "512", "63MiB", "-1GiB", "1TiB", "MiB", "1.5GiB", "99999999999GiB"} {
		if _, err := parseMemory(text); err == nil || !strings.Contains(err.Error(), "64MiB or more") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPlanMemory: the parts are the whole at most, and none is nothing.
func TestPlanMemory(t *testing.T) {
	const usual = 256 << 20
	for _, limit := range []int64{leastMemory, 100 << 20, 1 << 30, 64 << 30} {
		p := planMemory(limit, usual)
		if p.cache < 1<<20 || p.cache > usual || p.heap < limit/2 || p.table < 1<<20 || p.cache+4*p.table+p.heap > limit {
			t.Errorf("%d: %+v", limit, p)
		}
	}
}
