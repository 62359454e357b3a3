package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/storagenode"
)

// leastMemory is the least limit: below it a node would do nothing but collect garbage.
const leastMemory = 64 << 20

// memoryPlan is how a node keeps to a limit for the whole process, in bytes. The stores' cache and their memtables are not on Go's heap, so
// Go's own limit (GOMEMLIMIT) would know nothing of them.
type memoryPlan struct {
	cache int64 // the engines' block caches together
	table int64 // one of the four memtables of a node that is alone; in a grid there are several stores, with small ones
	heap  int64 // Go's limit: it is soft, and more is collected the nearer the heap comes to it
}

// planMemory parts a limit: a quarter for the cache, but not more than a node has anyway; an eighth for memtables, of which the stores flush
// the full ones; the rest for the heap, which has the vector indexes.
func planMemory(limit, usualCache int64) memoryPlan {
	return givenCache(limit, min(limit/4, usualCache))
}

// givenCache is the same with a cache that somebody has chosen.
func givenCache(limit, cache int64) memoryPlan {
	return memoryPlan{cache: cache, table: min(limit/32, 32<<20), heap: limit - cache - limit/8}
}

// keepMemory has the process keep to --memory-limit.
func keepMemory(c *cli.Context, e env, cfg *storagenode.Config) error {
	text := c.String("memory-limit")
	if text == "" {
		return nil
	}
	limit, err := parseMemory(text)
	if err != nil {
		return err
	}
	p := planMemory(limit, cfg.CacheBytes)
	if c.IsSet("cache-mb") {
		p = givenCache(limit, cfg.CacheBytes)
	}
	if p.heap < limit/4 {
		return fmt.Errorf("--memory-limit %s leaves %d MiB of heap beside a cache of %d MiB: want a quarter of it at least", text, p.heap>>20, p.cache>>20)
	}
	cfg.CacheBytes = p.cache
	if cfg.Grid == nil {
		cfg.TableBytes = p.table
	}
	e.limitHeap(p.heap)
	return nil
}

// units are those of a size, as GOMEMLIMIT writes them.
var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// parseMemory reads a limit, "512MiB" or "2GiB".
func parseMemory(text string) (int64, error) {
	for _, u := range units {
		number, is := strings.CutSuffix(text, u.suffix)
		if !is {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 32)
		if err == nil && n*u.bytes >= leastMemory {
			return n * u.bytes, nil
		}
	}
	return 0, fmt.Errorf("--memory-limit %q: want a size of 64MiB or more, like 512MiB or 2GiB", text)
}
