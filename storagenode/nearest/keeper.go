package nearest

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/sutra-grid/sutra-grid/storagenode/engine"
	"github.com/sutra-grid/sutra-grid/storagenode/vector"
)

// Config says whose vectors are indexed, and where the index is stored.
type Config struct {
	Engine    *engine.Engine // open until the Keeper is closed
	Dimension int            // of its vectors
	FS        vfs.FS         // nil: the disk
	Path      string         // of the index's file; the directory exists

	// Building is shared by the Keepers of a process and bounds how many of them build or compare at once, by its
	// capacity: building takes all of the processors that it may have, and 0.5 ms for each vector of 768 dimensions.
	Building chan struct{}

	Reports Reports
	Log     *slog.Logger

	limits limits // tests make them small; 0: the usual ones
	moved  func() // tests see the index move
}

// limits are what a Keeper does at a time.
type limits struct {
	step    int // stepChanges
	save    int // saveLeast
	waiting int // maxWaiting
}

// Reports are told what became of the index. Nil ones are left out. They must not wait.
type Reports struct {
	Built  func(Built)
	Loaded func(Loaded)
}

// Built: an index was made of all vectors.
type Built struct {
	Vectors   int
	Took      time.Duration
	Dimension int
}

// Loaded: an index was read from its file. What changed since follows.
type Loaded struct {
	Vectors int
	Took    time.Duration
	Applied uint64 // what the file was complete to
}

const (
	// stepChanges is how many changed vectors the index takes at a time: some 0.5 s of one processor, for which Close waits.
	stepChanges = 1024
	// The index is saved after as many changes as saveLeast and saveShare of its vectors: they are what a start after a crash
	// repeats, at most. A smaller share writes the file more often than the vectors themselves.
	saveLeast = 1024
	saveShare = 8
	// lastSteps bounds how long Close follows the last changes; the step that is under way then is waited for.
	lastSteps = time.Second
	// maxScans is how many searches of one replica compare with all vectors at once.
	maxScans = 2
	// maxWaiting is how many changed vectors a search compares one by one because the index does not have them yet: some 50 ms.
	// With more it compares with all.
	maxWaiting = 4096
)

// Keeper keeps one replica's index.
type Keeper struct {
	c     Config
	index atomic.Pointer[vector.Index] // nil: there is none yet
	wake  chan struct{}                // something may have changed; a wake that is not yet taken is enough
	scans chan struct{}
	stop  context.CancelFunc
	done  chan struct{}

	unsaved int  // changes since the last save that was tried; of run
	dirty   bool // the file lacks something; of run
}

// Open starts to load or build the index, and to follow the engine. It does not wait for either: Search works at once.
func Open(c Config) *Keeper {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.limits == (limits{}) {
		c.limits = limits{step: stepChanges, save: saveLeast, waiting: maxWaiting}
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &Keeper{c: c, wake: make(chan struct{}, 1), scans: make(chan struct{}, maxScans), stop: stop, done: make(chan struct{})}
	go k.run(ctx)
	return k
}

// Changed tells that the engine has applied something or was restored. It costs nothing and never waits.
func (k *Keeper) Changed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Close follows what was applied last, for a second or two at most, and saves the index. The engine is still open and nothing is applied any more.
func (k *Keeper) Close() {
	k.stop()
	<-k.done
}

// run is the only goroutine that changes the index.
func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	k.load()
	k.hasMoved()
	for {
		if err := k.follow(ctx); err != nil && ctx.Err() == nil {
			k.c.Log.Error("the vector index does not follow; searches compare with the vectors one by one", "error", err)
		}
		select {
		case <-k.wake:
		case <-ctx.Done():
			k.last()
			return
		}
	}
}

// last takes what an index that is there still lacks, for a moment, and saves it. What is left follows after the next start.
func (k *Keeper) last() {
	ctx, cancel := context.WithTimeout(context.Background(), lastSteps)
	defer cancel()
	if k.index.Load() != nil {
		if err := k.follow(ctx); err != nil && ctx.Err() == nil {
			k.c.Log.Warn("the vector index does not have the last changes; they follow after the next start", "error", err)
		}
	}
	if k.dirty {
		k.save()
	}
}

func (k *Keeper) options() vector.Options {
	// Half of the processors: the node serves, and its groups' heartbeats must not be late.
	return vector.Options{Dimension: k.c.Dimension, Workers: max(1, runtime.GOMAXPROCS(0)/2)}
}

// load takes the stored index, if there is one that can be used.
func (k *Keeper) load() {
	start := time.Now()
	x, err := vector.Load(k.c.FS, k.c.Path, k.options())
	switch {
	case oserror.IsNotExist(err):
		return
	case err != nil:
		k.c.Log.Warn("the stored vector index is not used and is built anew", "error", err)
		return
	case x.Applied() > k.c.Engine.Applied():
		// Saving flushes the store first, so the store was replaced by an older one.
		k.c.Log.Warn("the stored vector index is ahead of the store and is built anew", "file", k.c.Path, "index", x.Applied(), "store", k.c.Engine.Applied())
		return
	}
	k.index.Store(x)
	if k.c.Reports.Loaded != nil {
		k.c.Reports.Loaded(Loaded{Vectors: x.Len(), Took: time.Since(start), Applied: x.Applied()})
	}
}

// follow brings the index to the engine's last change, and saves it when enough has changed.
func (k *Keeper) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		x := k.index.Load()
		if x != nil && k.c.Engine.VectorsChanged() <= x.Applied() && x.Applied() <= k.c.Engine.Applied() {
			return nil
		}
		if err := k.step(ctx, x); err != nil {
			return err
		}
		if x = k.index.Load(); x != nil && k.unsaved >= max(k.c.limits.save, x.Len()/saveShare) {
			k.save()
		}
		k.hasMoved()
	}
	return ctx.Err()
}

func (k *Keeper) hasMoved() {
	if k.c.moved != nil {
		k.c.moved()
	}
}

// step does one thing: builds, compares, or takes the next changes. x is nil when there is no index.
func (k *Keeper) step(ctx context.Context, x *vector.Index) (err error) {
	view, err := k.c.Engine.Vectors()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if x == nil {
		return k.build(ctx, view)
	}
	if view.Applied() < x.Applied() {
		k.c.Log.Warn("the store was replaced by an older one; the vector index is built anew", "index", x.Applied(), "store", view.Applied())
		k.index.Store(nil)
		k.dirty = false
		return nil
	}
	ids, through, known, err := view.Changed(x.Applied(), k.c.limits.step)
	if err != nil {
		return err
	}
	if !known {
		return k.compare(ctx, view, x)
	}
	u := update{x: x, view: view}
	for _, id := range ids {
		if err := u.add(id); err != nil {
			return err
		}
	}
	return k.changed(&u, through)
}

// changed applies what is left of an update, which brings the index to an applied index.
func (k *Keeper) changed(u *update, applied uint64) error {
	if err := u.flush(applied); err != nil {
		return err
	}
	k.unsaved += u.changes
	k.dirty = k.dirty || u.changes > 0
	return nil
}

// save stores the index, and lets the engine forget the changes that it has. A failure leaves the older file and the changes since.
func (k *Keeper) save() {
	k.unsaved = 0
	err := k.c.Engine.Durable()
	var applied uint64
	if err == nil {
		applied, err = k.index.Load().Save(k.c.FS, k.c.Path)
	}
	if err == nil {
		k.dirty = false
		err = k.c.Engine.ForgetVectorChanges(applied)
	}
	if err != nil {
		k.c.Log.Warn("the vector index was not saved; a restart repeats what changed since the last time", "file", k.c.Path, "error", err)
	}
}
