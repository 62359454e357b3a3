package workload

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/history"
)

func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tally Tally
		begun := time.Now()
		after := func(d time.Duration) time.Time { return begun.Add(d) }
		for _, o := range []history.Outcome{history.OK, history.Fail, history.Unknown, history.OK, history.OK} {
			time.Sleep(time.Second)
			tally.Add(o)
		}
		if ok, fail, unknown := tally.Counts(); ok != 3 || fail != 1 || unknown != 1 {
			t.Error(tally.String())
		}
		for _, tt := range []struct {
			from, to time.Duration
			ok, all  int
		}{{0, time.Hour, 3, 5}, {time.Second, 4 * time.Second, 1, 3}, {1500 * time.Millisecond, 3 * time.Second, 0, 1}, {time.Minute, time.Hour, 0, 0}} {
			if ok, all := tally.Window(after(tt.from), after(tt.to)); ok != tt.ok || all != tt.all {
				t.Errorf("%s to %s: %d of %d, want %d of %d", tt.from, tt.to, ok, all, tt.ok, tt.all)
			}
		}
		if at, ok := tally.FirstOKAfter(after(1100 * time.Millisecond)); !ok || !at.Equal(after(4*time.Second)) {
			t.Errorf("first behind 1.1 s: %v, %v", at.Sub(begun), ok)
		}
		if at, ok := tally.FirstOKAfter(after(4 * time.Second)); !ok || !at.Equal(after(4*time.Second)) {
			t.Errorf("first at 4 s: %v, %v", at.Sub(begun), ok)
		}
		if _, ok := tally.FirstOKAfter(after(time.Minute)); ok {
			t.Error("there is none behind the last")
		}
		if at, ok := tally.LastOK(); !ok || !at.Equal(after(5*time.Second)) {
			t.Error("the last", at, ok)
		}
	})
}
