package master

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// upgrade is a grid of masters of two versions, of which the older knows one level less, under load.
type upgrade struct {
	*cluster
	versions map[event.MasterID]uint32
	acked    atomic.Int64 // the setting load was set to 1, 2 … acked
	stop     context.CancelFunc
	done     chan struct{}
}

const (
	olderLevel, newerLevel = fsm.SupportedLevel - 1, fsm.SupportedLevel

	loadKey = "load"
)

func newUpgrade(t *testing.T) *upgrade {
	t.Helper()
	u := &upgrade{versions: map[event.MasterID]uint32{}, done: make(chan struct{})}
	u.cluster = newCluster(t, func(cfg *Config) {
		cfg.Limits.Check = 50 * time.Millisecond
		if cfg.seams.supports = u.versions[cfg.ID]; cfg.seams.supports == 0 {
			cfg.seams.supports = olderLevel
		}
	})
	u.start(u.ids()...)
	ctx, cancel := context.WithCancel(t.Context())
	u.stop = cancel
	go u.load(ctx)
	t.Cleanup(func() { cancel(); <-u.done })
	return u
}

// load sends one command after the other, each until a master says that it is done.
func (u *upgrade) load(ctx context.Context) {
	defer close(u.done)
	for n := 1; ; n++ {
		req := proposeOf(u.t, event.SettingChanged{Key: loadKey, Value: strconv.Itoa(n)})
		req.RequestID, req.Issued = event.RequestID{1, byte(n >> 8), byte(n)}, time.Now().UnixMicro()
		for try := n; ; try++ {
			call, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := transport.Call[transport.ProposeOk](call, u.pool, u.peers[try%len(u.peers)].Grid, req)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				u.acked.Store(int64(n))
				break
			}
		}
	}
}

// roll restarts a master as another version, and waits until the others have it on record as that.
func (u *upgrade) roll(id event.MasterID, level uint32) {
	u.t.Helper()
	u.cluster.stop(id)
	u.versions[id] = level
	u.start(id)
	u.recorded(id, id, func(m *fsm.Master) bool { return m != nil && m.Level == level })
}

// TestRollingUpgrade: three masters are restarted one by one as a newer version, under load. The level rises when the last one runs
// it, and not while level.max holds it; afterwards the older version does not serve, and says what to run. No acknowledged command
// is lost or applied twice.
func TestRollingUpgrade(t *testing.T) {
	u := newUpgrade(t)
	must[transport.ProposeOk](u.cluster, "master-1", proposeOf(t, event.SettingChanged{Key: fsm.SettingLevelMax, Value: strconv.Itoa(olderLevel)}))
	for _, id := range u.ids() {
		u.roll(id, newerLevel)
	}
	u.more(20)
	for id, m := range u.up {
		if level := m.core.replica.View().Level(); level != olderLevel {
			t.Errorf("%s is at level %d, held at %d", id, level, olderLevel)
		}
	}
	u.roll("master-2", olderLevel) // while it is held, the way back is open
	must[transport.ProposeOk](u.cluster, "master-1", proposeOf(t, event.SettingChanged{Key: fsm.SettingLevelMax}))
	u.more(20)
	u.roll("master-2", newerLevel)
	all := u.feed("master-1", 1, until(event.TypeLevelRaised, 1))
	raised := all[slices.IndexFunc(all, func(e *event.Envelope) bool { return e.Type == event.TypeLevelRaised })]
	if raised.Body != (event.LevelRaised{To: newerLevel}) {
		t.Errorf("%+v", raised.Body)
	}
	u.orderOfRaise(raised.Seq)

	u.cluster.stop("master-3")
	u.versions["master-3"] = olderLevel
	u.refusesToServe("master-3")
	u.versions["master-3"] = newerLevel
	u.start("master-3")
	u.more(20)
	u.complete()
}

// more waits until so many more commands are acknowledged.
func (u *upgrade) more(n int64) {
	u.t.Helper()
	want := u.acked.Load() + n
	var m *Master
	for _, m = range u.up {
	}
	deadline := time.After(patience)
	for {
		changed := m.core.replica.Changed()
		value, _ := m.core.replica.View().Setting(loadKey)
		if now, err := strconv.ParseInt(value, 10, 64); err == nil && now >= want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			u.t.Fatalf("%d commands are acknowledged, want %d", u.acked.Load(), want)
		}
	}
}

// orderOfRaise: before the raise, as last said, every master was on record with the new version, and nothing held the level.
func (u *upgrade) orderOfRaise(seq uint64) {
	u.t.Helper()
	level, held := map[event.MasterID]uint32{}, ""
	for _, e := range u.feed("master-1", 1, func(all []*event.Envelope) bool { return uint64(len(all)) >= seq })[:seq-1] {
		switch b := e.Body.(type) {
		case event.MasterJoined:
			level[b.MasterID] = b.Level
		case event.SettingChanged:
			if b.Key == fsm.SettingLevelMax {
				held = b.Value
			}
		}
	}
	for _, id := range u.ids() {
		if level[id] != newerLevel || held != "" {
			u.t.Errorf("the level was raised by event %d, with %s on record with level %d, level.max %q", seq, id, level[id], held)
		}
	}
}

// refusesToServe starts a master of a version that is too old.
func (u *upgrade) refusesToServe(id event.MasterID) {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	m, err := Open(ctx, u.config(id))
	if err == nil {
		u.up[id] = m
		err = u.ended(id) // it learns from the others how far its log is committed
	}
	want := "level " + strconv.Itoa(newerLevel)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "supports "+strconv.Itoa(olderLevel)+": run a newer one") {
		u.t.Errorf("an older version ends with %v; want %q, and what to run", err, want)
	}
}

// complete: all masters have every acknowledged command, once.
func (u *upgrade) complete() {
	u.t.Helper()
	u.stop()
	<-u.done
	acked := int(u.acked.Load())
	loaded := func(e *event.Envelope) int {
		b, is := e.Body.(event.SettingChanged)
		n, err := strconv.Atoi(b.Value)
		if !is || b.Key != loadKey || err != nil {
			return 0
		}
		return n
	}
	for _, id := range u.ids() {
		seen := map[int]int{}
		for _, e := range u.feed(id, 1, func(all []*event.Envelope) bool {
			return slices.ContainsFunc(all, func(e *event.Envelope) bool { return loaded(e) == acked })
		}) {
			seen[loaded(e)]++
		}
		for n := 1; n <= acked; n++ {
			if seen[n] != 1 {
				u.t.Errorf("%s: command %d of %d was applied %d times", id, n, acked, seen[n])
			}
		}
	}
}
