package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/transport"
)

// TestFlushed: each flush that wrote something is told once, with the rows that were written since the one before, those that were
// written over included; a flush without anything to write is not told.
func TestFlushed(t *testing.T) {
	var mu sync.Mutex
	var told []Flush
	o := testOptions(t, vfs.NewMem())
	o.Flushed = func(f Flush) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, f)
	}
	flush := func(e *Engine) []Flush {
		t.Helper()
		for range 2 {
			if err := e.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		got := told
		told = nil
		return got
	}
	rows := func(e *Engine, concepts, times int) uint64 {
		t.Helper()
		for n := range concepts * times {
			op := transport.Op{Kind: transport.OpLearnConcept, ID: fmt.Sprint("c-", concepts, "-", n%concepts), Content: "x", Strength: 1, Confidence: 1}
			write(t, e, op)
		}
		got := flush(e)
		if len(got) != 1 || got[0].Took <= 0 || got[0].Took > time.Minute {
			t.Fatalf("told %+v", got)
		}
		return got[0].Rows
	}
	e := mustOpen(t, o)
	flush(e) // the record of changed vectors, which opening begins
	if got := flush(e); len(got) != 0 {
		t.Errorf("nothing was written, and told was %+v", got)
	}
	rows(e, 1, 1)
	ten, thirty, over := rows(e, 10, 1), rows(e, 30, 1), rows(e, 5, 20)
	if ten == 0 || ten%10 != 0 || thirty != 3*ten || over < 5*20*2 {
		t.Errorf("10 concepts were %d rows, 30 were %d, 5 concepts 20 times were %d", ten, thirty, over)
	}
	mustClose(t, e)
	e = mustOpen(t, o)
	flush(e)
	if again := rows(e, 10, 1); again == 0 || again > ten {
		t.Errorf("behind a restart 10 concepts were %d rows, before %d", again, ten)
	}
	mustClose(t, e)
}
