package raftgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// TestLogThatCannotGrow: no new file can be made for the log. What ends the replica says so, and not how the next entry fails.
func TestLogThatCannotGrow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, walDir)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	l := newLatch(func(err error) { told <- err })
	s, err := openLog(dir, storeConfig{group: "g", segmentBytes: 64 << 10, latch: l, log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.arm(); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 1, Term: 1}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	for i := uint64(2); err == nil; i++ {
		if i > 1000 {
			t.Fatal("it grew")
		}
		err = s.StoreLog(&raft.Log{Index: i, Term: 1, Data: make([]byte, 1000)})
	}
	why := <-told
	if !errors.Is(why, fs.ErrNotExist) || !strings.Contains(why.Error(), "begin a new file") || !strings.Contains(why.Error(), path) || !errors.Is(err, why) {
		t.Errorf("it tells %v, and answers %v", why, err)
	}
	_ = s.Close() // its directory is gone
}
