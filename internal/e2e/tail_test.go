package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTailOutlivesItsMaster: `gridctl events tail` goes on when the master it hangs on is killed; every event comes once, in order.
func TestTailOutlivesItsMaster(t *testing.T) {
	m := startMasters(t)
	m.leader()
	var grids []string
	for _, p := range m.procs {
		grids = append(grids, p.grid)
	}
	tail := exec.Command(filepath.Join(binaries, "gridctl"), "--master", strings.Join(grids, ","), "--output", "json", "events", "tail", "--from", "1")
	tail.Env, tail.Stderr = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir()), os.Stderr
	stdout, err := tail.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	seqs := make(chan uint64, 1<<16)
	go func() {
		defer close(seqs)
		for sc := bufio.NewScanner(stdout); sc.Scan(); {
			var e struct{ Seq uint64 }
			if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
				t.Errorf("%q: %v", sc.Text(), err)
				return
			}
			seqs <- e.Seq
		}
	}()
	last := uint64(0)
	follow := func(through uint64) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for last < through {
			select {
			case seq, open := <-seqs:
				if !open || seq != last+1 {
					t.Fatalf("behind event %d came %d (the end: %v)", last, seq, !open)
				}
				last = seq
			case <-limit:
				t.Fatalf("at event %d of %d after 30 s", last, through)
			}
		}
	}
	load := startLoad(m, 2)
	follow(100)
	hung := m.procs[0] // tail began with the first address, and nothing made it leave
	gone := m.end(hung, syscall.SIGKILL)
	follow(last + 200)
	<-gone
	m.await(hung, m.launch(hung))
	follow(last + 50)
	if _, failures := load.stop(); len(failures) > 0 {
		t.Errorf("%d calls failed, the first: %v", len(failures), failures[0])
	}
	if err := tail.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for seq := range seqs {
		if last++; seq != last {
			t.Fatalf("behind event %d came %d", last-1, seq)
		}
	}
	if err := tail.Wait(); err != nil {
		t.Errorf("interrupted, it ended with %v", err)
	}
}
