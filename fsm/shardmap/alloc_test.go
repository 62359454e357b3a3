//go:build !race

package shardmap

import (
	"strings"
	"testing"
)

// TestRouteDoesNotAllocate, whatever the id's length.
func TestRouteDoesNotAllocate(t *testing.T) {
	m, long := mapOf(16, 16), strings.Repeat("x", 512)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.Shard(long); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
