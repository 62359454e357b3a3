package overdue

import (
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, limit := range []time.Duration{0, time.Millisecond, Notice, 2 * time.Second, math.MaxInt64} {
			began, late := time.Now(), make(chan time.Duration, 2)
			stop := After(limit, func() { late <- time.Since(began) })
			if limit == math.MaxInt64 {
				stop()
				continue
			}
			if took := <-late; took != limit {
				t.Errorf("%s: told after %s", limit, took)
			}
			stop()
			stop()
			time.Sleep(time.Minute) // virtual
			if len(late) > 0 {
				t.Errorf("%s: told twice", limit)
			}
		}
	})
}

// TestStopped: what is done in time is not told of, in either part of the limit.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, took := range []time.Duration{0, time.Second, 2*time.Second - Notice/2} {
			stop := After(2*time.Second, func() { t.Errorf("told, though it took %s", took) })
			time.Sleep(took)
			stop()
			time.Sleep(time.Minute)
		}
	})
}

const standsStill = "OVERDUE_TEST_STANDS_STILL"

func TestMain(m *testing.M) {
	if os.Getenv(standsStill) != "" {
		wait()
	}
	os.Exit(m.Run())
}

// wait is a process that waits for a second with a limit of two, and says whether that was too long.
func wait() {
	late := make(chan struct{})
	done := time.NewTimer(time.Second)
	stop := After(2*time.Second, func() { close(late) })
	os.Stdout.WriteString("waiting\n")
	said := "done"
	select {
	case <-late:
		said = "late"
	case <-done.C:
		stop()
		select {
		case <-late:
			said = "late"
		case <-time.After(2 * Notice):
		}
	}
	os.Stdout.WriteString(said + "\n")
	os.Exit(0)
}

// TestStandingStill: a process that is stopped for longer than the limit does not take what was done meanwhile for overdue.
func TestStandingStill(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), standsStill+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if _, err := out.Read(b); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond) // longer than the limit, and nothing can signal that
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n, err := out.Read(b)
	if err != nil || strings.TrimSpace(string(b[:n])) != "done" {
		t.Errorf("%s, %v", strconv.Quote(string(b[:n])), err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
