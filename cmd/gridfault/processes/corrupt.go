package processes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// damage changes a file, and returns how many bytes it changed and what it was before.
type damage func(t *trial, path string) (n int64, before []byte, err error)

// flipBit changes one bit of what a file holds.
func flipBit(t *trial, path string) (int64, []byte, error) {
	before, err := os.ReadFile(path)
	if err != nil {
		return 0, nil, err
	}
	full := len(strings.TrimRight(string(before), "\x00"))
	if full == 0 {
		return 0, nil, fmt.Errorf("%s holds nothing", path)
	}
	after := append([]byte{}, before...)
	after[t.rng.IntN(full)] ^= 1 << t.rng.IntN(8)
	return 1, before, overwrite(path, after)
}

// cutShort leaves a part of what a file holds.
func cutShort(t *trial, path string) (int64, []byte, error) {
	before, err := os.ReadFile(path)
	if err != nil {
		return 0, nil, err
	}
	full := len(strings.TrimRight(string(before), "\x00"))
	if full == 0 {
		return 0, nil, fmt.Errorf("%s holds nothing", path)
	}
	keep := t.rng.IntN(full)
	return int64(len(before) - keep), before, overwrite(path, before[:keep])
}

// overwrite keeps the file itself: who knows it by its inode still does.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func corruptFlip(ctx context.Context, t *trial) error { return t.corrupt(ctx, flipBit) }

func corruptTruncate(ctx context.Context, t *trial) error { return t.corrupt(ctx, cutShort) }

// corrupt damages a file of a master that does not lead, while it is stopped, and starts it. It may find the damage at once and end, or
// never read it; what it must not do is to give a wrong answer, and that is for the checkers. Heal puts the file of one that ended back
// as it was: nothing has run on it meanwhile.
func (t *trial) corrupt(ctx context.Context, do damage) error {
	followers, err := t.followers(ctx)
	if err != nil {
		return err
	}
	m := pick(t, followers)
	v := victim{m: m}
	t.meets(v)
	limited, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if _, err := slay(limited, unix.SIGKILL, v); err != nil {
		return err
	}
	paths, err := guarded(m.data())
	if err != nil {
		return err
	}
	path := pick(t, paths)
	n, before, err := do(t, path)
	if before != nil {
		t.onHeal(func(ctx context.Context) error { return t.mend(ctx, m, path, before) })
	}
	if err != nil {
		return err
	}
	t.count.Add(n)
	t.met = append(t.met, strings.TrimPrefix(path, m.data()+"/"))
	return t.g.start(m)
}

// mend puts a file back, if the master has ended over the damage.
func (t *trial) mend(ctx context.Context, m *machine, path string, before []byte) error {
	limited, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	go func() { // there is nothing to wait for once it has ended
		select {
		case <-m.proc.Load().ended:
			cancel()
		case <-limited.Done():
		}
	}()
	if t.g.awaitUp(limited, m) == nil {
		return nil // it has lived with it, or mended it itself
	}
	killing, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if _, err := slay(killing, unix.SIGKILL, victim{m: m}); err != nil {
		return err
	}
	return overwrite(path, before)
}

// settleWait is how long a master on a damaged disk may take to serve or to end.
const settleWait = 3 * time.Second

// guarded are the files of a master whose damage must be detected: those of the log and the snapshots, all of whose content is under
// checksums (internal/raftgroup).
func guarded(data string) (paths []string, err error) {
	err = filepath.WalkDir(filepath.Join(data, "raft"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(path, ".wal") || strings.Contains(path, "snapshots"+string(filepath.Separator))) {
			paths = append(paths, path)
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s has neither log nor snapshot", data)
	}
	return paths, err
}
