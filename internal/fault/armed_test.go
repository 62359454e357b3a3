//go:build faults

package fault

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		plan string
		want []int // the passes of the first ten at which the log's store fails
	}{
		{"", nil},
		{"raft.log.store:error=ENOSPC", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"raft.log.store:error=ENOSPC@3", []int{3}},
		{"outbox.append:hang, raft.log.store:error=EIO@9+\n", []int{9, 10}},
		{"raft.log.store:error=EROFS@2\nraft.log.store:error=EROFS@4", []int{2, 4}},
		{"raft.log.store:error=EROFS%100", []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"raft.log.store:error=EROFS@6+%0.000001", nil},
	} {
		p, err := parse(tt.plan, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Errorf("%q: %v", tt.plan, err)
			continue
		}
		var hits []int
		for i := range 10 {
			if a, pass := p.pass(RaftLogStore); a != nil {
				if int(pass) != i+1 || a.errno == 0 {
					t.Errorf("%q: pass %d is counted as %d, %+v", tt.plan, i+1, pass, a)
				}
				hits = append(hits, i+1)
			}
		}
		if !slices.Equal(hits, tt.want) {
			t.Errorf("%q: hits at %v, want %v", tt.plan, hits, tt.want)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, plan := range []string{
		"raft.log.stor:crash", "raft.log.store", "raft.log.store:", "raft.log.store:stop", "raft.log.store:error", "raft.log.store:error=EWHAT",
		"raft.log.store:delay=5", "raft.log.store:delay=-5s", "raft.log.store:crash@0", "raft.log.store:crash@", "raft.log.store:crash@x",
		"raft.log.store:crash%0", "raft.log.store:crash%101", "raft.log.stored:error=EIO",
	} {
		if _, err := parse(plan, nil); err == nil || !strings.Contains(err.Error(), plan) {
			t.Errorf("%q: %v", plan, err)
		}
	}
}

// TestFileIsObeyed: what the file says at the moment of a pass holds, and a point that hangs goes on when it is taken back.
func TestFileIsObeyed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan")
	t.Setenv("GRID_FAULT_FILE", path)
	say := func(plan string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(plan), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if err := Err(OutboxFlush); err != nil {
		t.Fatalf("without a file: %v", err)
	}
	say("outbox.flush:error=ENOSPC")
	if err := Err(OutboxFlush); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "outbox.flush") {
		t.Fatalf("armed: %v", err)
	}
	say("outbox.flush:delay=30ms")
	begun := time.Now()
	if err := Err(OutboxFlush); err != nil || time.Since(begun) < 30*time.Millisecond {
		t.Fatalf("delayed: %v after %v", err, time.Since(begun))
	}
	say("outbox.flush:hang")
	free := make(chan error, 1)
	go func() { free <- Err(OutboxFlush) }()
	select {
	case err := <-free:
		t.Fatalf("it did not hang: %v", err)
	case <-time.After(5 * hungCheck):
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := <-free; err != nil {
		t.Fatal(err)
	}
}
