package master

import (
	"testing"
	"time"
)

// TestLogClock steps the wall clock under a leader: log time follows slowly and never runs back.
func TestLogClock(t *testing.T) {
	start := time.Now()
	var passed, step time.Duration
	// Go's Add moves wall and monotonic reading together; a step of the wall clock alone is played by a clock whose readings
	// are compared by what has passed.
	clock := newLogClock(start.UnixMicro(), func() (time.Duration, int64) { return passed, start.Add(passed + step).UnixMicro() })
	read := func() time.Duration {
		return time.UnixMicro(clock.Now().UnixMicro()).Sub(start.Truncate(time.Microsecond))
	}
	passed = 10 * time.Second
	if got := read(); got != 10*time.Second {
		t.Fatalf("after 10 s it says %v", got)
	}
	step, passed = time.Hour, 20*time.Second
	if got := read(); got != 21*time.Second {
		t.Errorf("10 s after a step forward by an hour it has passed %v, want 11 s", got-10*time.Second)
	}
	step, passed = -time.Hour, 30*time.Second
	if got := read(); got != 30*time.Second {
		t.Errorf("10 s after a step back it has passed %v, want 9 s", got-21*time.Second)
	}
	step, passed = 500*time.Millisecond, 40*time.Second
	if got := read(); got != 40*time.Second+500*time.Millisecond {
		t.Errorf("half a second behind, 10 s bring it to %v, want the wall clock's 40.5 s", got)
	}
	clock.TakeOffice(start.Add(time.Minute).UnixMicro())
	if got := read(); got != time.Minute {
		t.Errorf("a leader whose log is ahead begins at %v, want 1 m", got)
	}
	step, passed = -30*time.Second, 50*time.Second
	if got := read(); got != 69*time.Second {
		t.Errorf("and goes on to %v, want 69 s", got)
	}
}
