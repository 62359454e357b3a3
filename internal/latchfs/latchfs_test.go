package latchfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// watched is a guard over a file system in memory below which act decides what each operation does, and what it told.
func watched(act func(errorfs.Op) error) (*Guard, *[]string) {
	var told []string
	inner := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(act))
	return NewGuard(inner, Config{Name: "outbox", Dir: "data/outbox", Deadline: Deadline, Fatal: func(err error) { told = append(told, err.Error()) }}), &told
}

// TestFirstFailureEndsTheStore: each kind of operation that changes the disk, failing once.
func TestFirstFailureEndsTheStore(t *testing.T) {
	work := func(g *Guard) error {
		f, err := g.Create("a", vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte("x"))
		err = errors.Join(err, f.Sync(), f.Close())
		return errors.Join(err, g.Rename("a", "b"), g.Link("b", "c"), g.Remove("b"), g.MkdirAll("d", 0o755), g.RemoveAll("d"))
	}
	kinds := 0
	for at := 1; ; at++ {
		n, what := 0, ""
		g, told := watched(func(op errorfs.Op) error {
			if n++; n != at {
				return nil
			}
			what = fmt.Sprint(op.Kind)
			return &fs.PathError{Op: "do", Path: "data/outbox/file", Err: syscall.ENOSPC}
		})
		err := work(g)
		if what == "" {
			break
		}
		kinds++
		want := "outbox in data/outbox: do data/outbox/file: " + syscall.ENOSPC.Error()
		if !errors.Is(err, syscall.ENOSPC) || len(*told) != 1 || (*told)[0] != want || g.Err() == nil || g.Err().Error() != want {
			t.Errorf("operation %d (%s): %v, told %q, latched %v", at, what, err, *told, g.Err())
		}
		before := n
		if _, err := g.Create("later", vfs.WriteCategoryUnspecified); !errors.Is(err, syscall.ENOSPC) || n != before {
			t.Errorf("operation %d (%s): later ones reach the disk: %v", at, what, err)
		}
	}
	if kinds < 8 {
		t.Errorf("%d kinds of operations failed: this test tests little", kinds)
	}
}

// TestAnswersAreNotFailures: that something is absent or there already is said to the store, and that is all.
func TestAnswersAreNotFailures(t *testing.T) {
	g, told := watched(func(errorfs.Op) error { return nil })
	if _, err := g.Open("nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, err := g.OpenDir("nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open directory: %v", err)
	}
	if g.Err() != nil || len(*told) != 0 {
		t.Errorf("latched %v, told %q", g.Err(), *told)
	}
}

// TestHungDiskEndsTheStore: the owner is told at the deadline while the operation still hangs, and not before.
func TestHungDiskEndsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64
		told := make(chan string, 1)
		slow := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync {
				time.Sleep(time.Duration(takes.Load()))
			}
			return nil
		})
		g := NewGuard(errorfs.Wrap(vfs.NewMem(), slow), Config{Name: "outbox", Dir: "o", Deadline: Deadline, Fatal: func(err error) { told <- err.Error() }})
		f, err := g.Create("file", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		takes.Store(int64(500 * time.Millisecond))
		for range 10 { // together longer than the deadline
			if err := f.Sync(); err != nil {
				t.Fatalf("a slow disk: %v", err)
			}
		}
		takes.Store(int64(time.Hour))
		begun := time.Now()
		done := make(chan error)
		go func() { done <- f.Sync() }()
		if s := <-told; time.Since(begun) != Deadline || !strings.Contains(s, "outbox in o: sync file: ") || !strings.Contains(s, "within 2s") {
			t.Errorf("after %v: %s", time.Since(begun), s)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("it goes on writing")
		}
		<-done
	})
}
