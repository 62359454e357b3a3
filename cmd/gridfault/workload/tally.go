package workload

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/history"
)

// Tally counts what became of requests, with the moments at which that was known. It takes 24 bytes a request. All methods may be called
// concurrently; the zero value is empty.
type Tally struct {
	mu     sync.Mutex
	ended  []ended // guarded by mu; in the order of time
	counts [3]int  // guarded by mu; by outcome
}

type ended struct {
	at      time.Time
	outcome history.Outcome
}

// Add counts a request that has ended now.
func (t *Tally) Add(o history.Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = append(t.ended, ended{time.Now(), o})
	t.counts[o]++
}

// Counts is how many requests ended in each way.
func (t *Tally) Counts() (ok, fail, unknown int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[history.OK], t.counts[history.Fail], t.counts[history.Unknown]
}

// Window is how many requests ended in a span of time, from included and to not, and how many of them well.
func (t *Tally) Window(from, to time.Time) (ok, all int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.ended[t.indexLocked(from):] {
		if !e.at.Before(to) {
			break
		}
		if all++; e.outcome == history.OK {
			ok++
		}
	}
	return ok, all
}

// FirstOKAfter is when the first request ended well at or after a moment; false: none has yet.
func (t *Tally) FirstOKAfter(at time.Time) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.ended[t.indexLocked(at):] {
		if e.outcome == history.OK {
			return e.at, true
		}
	}
	return time.Time{}, false
}

// LastOK is when the last request ended well; false: none has yet.
func (t *Tally) LastOK() (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.ended) - 1; i >= 0; i-- {
		if t.ended[i].outcome == history.OK {
			return t.ended[i].at, true
		}
	}
	return time.Time{}, false
}

// indexLocked is the first request that ended at or after a moment.
func (t *Tally) indexLocked(at time.Time) int {
	return sort.Search(len(t.ended), func(i int) bool { return !t.ended[i].at.Before(at) })
}

// String is the counts for people.
func (t *Tally) String() string {
	ok, fail, unknown := t.Counts()
	return fmt.Sprintf("%d ok, %d failed, %d unknown", ok, fail, unknown)
}
