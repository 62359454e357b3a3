package processes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/internal/latchfs"
	"github.com/sutra-grid/sutra-grid/transport"
)

// errNoImage refuses what takes a disk of its own.
var errNoImage = errors.New("its disk is a plain directory")

// powerOff takes the power from machines, all at once: what was not synced is gone, and so are the processes. Heal mounts the disks,
// which replays their journals. The proof is that each file system says it was shut down.
func (t *trial) powerOff(ctx context.Context, way uint32, machines ...*machine) error {
	t.onHeal(func(ctx context.Context) error { return t.powerOn(ctx, machines) })
	for _, m := range machines {
		if m.image == nil {
			return fmt.Errorf("%s: %w", m.id, errNoImage)
		}
		t.meets(victim{m: m})
	}
	victims := all(machines...) // an agent's record cannot be read later
	var faults []error
	for _, m := range machines {
		faults = append(faults, m.image.powerOff(way))
	}
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	_, err := slay(ctx, unix.SIGKILL, victims...)
	for _, m := range machines {
		if down(m.dir) {
			t.count.Add(1)
		}
	}
	return errors.Join(append(faults, err)...)
}

// down tells whether the file system at dir was shut down: nothing can be made there, and that not for lack of room or rights.
func down(dir string) bool {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS)
}

func (t *trial) powerOn(ctx context.Context, machines []*machine) error {
	faults := make([]error, len(machines))
	var mounting sync.WaitGroup
	for i, m := range machines {
		if m.image != nil {
			mounting.Go(func() { faults[i] = m.remount(ctx) })
		}
	}
	mounting.Wait()
	return errors.Join(faults...)
}

// remount ends all processes of a machine, as they keep its disk busy, and mounts it again.
func (m *machine) remount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if _, err := slay(ctx, unix.SIGKILL, all(m)...); err != nil {
		return err
	}
	if err := until(ctx, "its disk is busy", func(context.Context) error { return m.image.unmount() }); err != nil {
		return fmt.Errorf("%s: %w", m.id, err)
	}
	return m.image.mount()
}

func powerOne(ctx context.Context, t *trial) error {
	return t.powerOff(ctx, shutdownNoLogFlush, pick(t, t.g.machines))
}

// powerMinority meets a minority of the masters and one machine with nodes, that is at most one voter of each shard; with one voter it
// would be a majority of it, and is left.
func powerMinority(ctx context.Context, t *trial) error {
	masters := t.g.of(roleMaster)
	t.rng.Shuffle(len(masters), func(i, k int) { masters[i], masters[k] = masters[k], masters[i] })
	list := masters[:minority(len(masters))]
	if t.g.cfg.Replicas > 1 {
		list = append(list, pick(t, t.g.of(roleAgent)))
	}
	if len(list) == 0 {
		return errors.New("nothing here has a minority: there is one master, and one voter of each shard")
	}
	return t.powerOff(ctx, shutdownNoLogFlush, list...)
}

func powerAll(ctx context.Context, t *trial) error {
	return t.powerOff(ctx, shutdownNoLogFlush, t.g.machines...)
}

// powerTorn takes the power from one machine while its logs are written to: what they had not synced is there in part when the disk is
// mounted again.
func powerTorn(ctx context.Context, t *trial) error {
	var writers []*machine // an agent may have nodes without a replica
	for _, m := range t.g.machines {
		logs, err := disk.Logs(m.data())
		if err != nil {
			return err
		}
		if len(logs) > 0 {
			writers = append(writers, m)
		}
	}
	m := pick(t, writers) // a master has a log
	t.onHeal(func(context.Context) error {
		if m.image == nil || !m.image.mounted {
			return nil // its disk could not be mounted, which is said already
		}
		lost, err := disk.Tear(m.data(), t.rng)
		t.met = append(t.met, fmt.Sprintf("%d bytes of its last writes", lost))
		return err
	})
	return t.powerOff(ctx, shutdownNoLogFlush, m) // whose onHeal comes first
}

// fillDisk leaves the leading master's disk, or another master's, no room, and has it take a snapshot, which needs some.
func fillDisk(ctx context.Context, t *trial) error {
	m, p, err := t.diskVictim(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	balloon := filepath.Join(m.dir, "balloon")
	t.onHeal(func(context.Context) error { return os.Remove(balloon) })
	limited, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	err = until(limited, "notices nothing", func(ctx context.Context) error {
		if err := fill(balloon); err != nil { // again and again: what is deleted makes room
			return err
		}
		t.askSnapshot(ctx, m)
		return p.hasEnded()
	})
	if err == nil {
		t.count.Add(1)
	}
	return ctx.Err() // an end that has not come yet is no error: without it there is no proof
}

// askSnapshot makes a master write; nodes have their clients. Whether it can is what the fault is about, so its answer means nothing.
func (t *trial) askSnapshot(ctx context.Context, m *machine) {
	if m.role != roleMaster {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, err := t.g.desk.pool.Call(ctx, m.grid, &transport.TakeSnapshot{MasterID: m.masterID()})
	t.g.cfg.Log.Debug("a snapshot on a disk that fails", "master", m.id, "error", err)
}

// fill makes a file grow until it has all that is left.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := info.Size()
	for piece := int64(64 << 20); piece >= 512; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, piece); {
		case err == nil:
			at += piece
		case errors.Is(err, unix.ENOSPC):
			piece /= 2
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill %s: %w", path, err)
		}
	}
	return nil
}

// diskVictim is the leading master, or any, and its process.
func (t *trial) diskVictim(ctx context.Context) (*machine, *target, error) {
	v, err := t.leader(ctx)
	if err != nil {
		return nil, nil, err
	}
	if t.rng.IntN(2) == 0 {
		v.m = pick(t, t.g.of(roleMaster))
	}
	p, err := v.open()
	if err != nil {
		return nil, nil, err
	}
	t.meets(v)
	return v.m, p, nil
}

// anyDiskVictim is a master, or the node that leads a shard.
func (t *trial) anyDiskVictim(ctx context.Context) (*machine, *target, error) {
	if t.rng.IntN(3) > 0 || t.fault.Masters {
		return t.diskVictim(ctx)
	}
	v, err := t.shardLeader(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, err := v.open()
	if err != nil {
		return nil, nil, err
	}
	t.meets(v)
	return v.m, p, nil
}

// frozenLeast is how long a disk is frozen at least: one that answers before a write's deadline was slow, and nobody has to leave for that.
const frozenLeast = latchfs.Deadline + time.Second

// freezeDisk makes every write to a disk wait. The process notices when its write deadline has passed, and leaves; the kernel
// keeps it until the disk answers.
func freezeDisk(ctx context.Context, t *trial) error {
	m, p, err := t.anyDiskVictim(ctx)
	if err != nil {
		return err
	}
	least := time.NewTimer(0)
	t.onHeal(func(ctx context.Context) error {
		defer p.close()
		select {
		case <-least.C:
		case <-ctx.Done(): // it is thawed in any case
		}
		if err := thaw(m.dir); err != nil {
			return err
		}
		return t.awaitExit(ctx, p)
	})
	if err := m.image.freeze(); err != nil {
		return err
	}
	least.Reset(frozenLeast)
	t.askSnapshot(ctx, m)
	return nil
}

// abortDisk makes a file system what it makes itself after an error of the device: read-only, for open files too.
func abortDisk(ctx context.Context, t *trial) error {
	m, p, err := t.anyDiskVictim(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	t.onHeal(func(ctx context.Context) error { return m.remount(ctx) })
	if err := tool("mount", "-o", "remount,abort", m.dir); err != nil {
		return err
	}
	t.askSnapshot(ctx, m)
	return t.awaitExit(ctx, p)
}

// diskError has the disk of a master, or of a shard's leader, answer EIO.
func diskError(ctx context.Context, t *trial) error {
	v, err := t.writer(ctx)
	if err != nil {
		return err
	}
	return t.failDisk(ctx, v)
}

func diskSlow(ctx context.Context, t *trial) error {
	v, err := t.writer(ctx)
	if err != nil {
		return err
	}
	return t.slowDisk(v, t.roll(50, 1000))
}

// writer is the leading master or the node that leads a shard: who surely writes.
func (t *trial) writer(ctx context.Context) (victim, error) {
	if t.rng.IntN(2) == 0 || t.fault.Masters {
		return t.leader(ctx)
	}
	return t.shardLeader(ctx)
}

// noticeLimit is how long a process may take to notice that its disk has failed, before the fault is left to do its work: the write
// deadline, 2 s, and the end.
const noticeLimit = 4 * time.Second
