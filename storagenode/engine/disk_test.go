package engine

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/latchfs"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// A disk that is full ends the replica, with the file and the reason; what was applied and not written is not served as stored.
func TestFullDiskEndsTheReplica(t *testing.T) {
	var full atomic.Bool
	disk := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	f := &fatals{}
	o := testOptions(t, errorfs.Wrap(vfs.NewMem(), disk))
	o.Fatal = f.add
	e := mustOpen(t, o)
	write(t, e, concept("a"))
	full.Store(true)
	told := make(chan struct{})
	e.o.Fatal = func(err error) { f.add(err); close(told) }
	beginFlush(t, e)
	<-told
	want := filepath.Join("engine", "store-000001")
	if errs := f.list(); len(errs) != 1 || !strings.Contains(errs[0].Error(), want) || !strings.Contains(errs[0].Error(), syscall.ENOSPC.Error()) {
		t.Fatalf("the owner was told %q, want once, with the file", errs)
	}
	applied := e.Applied()
	answers := e.Apply([]raftgroup.Entry{entryAt(t, applied+1, writeOf(1, testTime, concept("b")))})
	refusal(t, answers[0][0].(Answer), event.KindInternal)
	if _, err := e.Snapshot(); err == nil {
		t.Error("a snapshot on a disk that failed")
	}
	full.Store(false)
	_ = e.Close() // it failed
}

// beginFlush flushes without waiting: Pebble tries a failed flush for ever.
func beginFlush(t *testing.T, e *Engine) {
	t.Helper()
	s, err := e.use()
	must(t, err)
	defer s.release()
	if _, err := s.db.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
}

// A disk that gives no answer ends the replica at the deadline, while the write still hangs.
func TestHungDiskEndsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		disk := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if hangs.Load() && op.Kind == errorfs.OpFileWrite {
				time.Sleep(time.Hour)
				return syscall.EIO
			}
			return nil
		})
		o := testOptions(t, errorfs.Wrap(vfs.NewMem(), disk))
		told := make(chan error, 1)
		o.Fatal = func(err error) { told <- err }
		e := mustOpen(t, o)
		write(t, e, concept("a"))
		hangs.Store(true)
		begun := time.Now()
		beginFlush(t, e)
		if err := <-told; time.Since(begun) != latchfs.Deadline || !strings.Contains(err.Error(), "write engine") {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		_ = e.Close() // it failed
	})
}
