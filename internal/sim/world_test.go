package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	labels "github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master"
	"github.com/sutra-grid/sutra-grid/storagenode"
	"github.com/sutra-grid/sutra-grid/transport"
)

// patience is how much virtual time may pass before what must happen has not.
const patience = time.Minute

const (
	eventsHost = "events"
	frontHost  = "front" // of a scenario that has one
)

// world is one grid in a bubble: masters as gridmaster assembles them, with their stores in a directory each, and event storage
// as gridnode --events assembles it, each on a host of its own in an in-memory network.
//
// A crash of a master ends it with nothing handed over and nothing flushed. What it loses is what a process loses: what is in
// memory, the whole unflushed part of the outbox included. What it keeps is what it has written, synced or not, so a write
// that should have been synced and was not goes unnoticed here; the suite with real disks is for that.
type world struct {
	t *testing.T
	scenario
	net   *transport.Memory
	root  string
	peers master.Peers
	ids   []event.MasterID
	hosts []string // all, for links
	tap   *tap

	mu     sync.Mutex
	faults []error                    // guarded by mu; what was promised and not kept
	up     map[event.MasterID]*member // guarded by mu
	feed   *storagenode.Node          // guarded by mu; nil while event storage is down

	homesteads []*homestead
	observers  []*observer
	settled    []*estate
	dead       []func()     // start the nodes that were killed again
	killed     atomic.Int64 // nodes
	deposed    atomic.Int64 // leaders of shards
	hashed     atomic.Int64 // contents of replicas that were compared

	ledger  *ledger
	reads   atomic.Int64 // linearizable reads that were checked
	states  *states
	readers map[event.MasterID]*replicaFeed // of the checker
	pool    *transport.Pool                 // of the checker
}

// member is one running master.
type member struct {
	*master.Master
	watching chan struct{} // closed when its observer has ended
	stop     context.CancelFunc
}

// scenario is what a run begins with; everything else follows.
type scenario struct {
	seed    uint64
	masters int
	losses  int    // of the leader
	steps   []step // nil: those that follow from the seed
	pace    int    // clients think so many times longer; 0: once
	watched bool   // users follow the feed and the shard map meanwhile

	machine      func(id event.MasterID, real raftgroup.FSM) raftgroup.FSM                        // a broken state machine; nil: the real one
	shardMachine func(agent event.AgentID, shard event.ShardID, real raftgroup.FSM) raftgroup.FSM // the same of storage nodes

	replicas int                                         // of each shard of a grid with estates; 0: three
	point    func(host string, label labels.Label)       // called where a transaction takes a step; nil: nothing is
	tune     func(*master.Config)                        // changes a master's configuration; nil: nothing
	estates  int                                         // agents with real storage nodes, in place of the others; the grid has two shards of three replicas
	front    func(w *world) (addrs []string, end func()) // what clients call instead of the masters; nil: nothing
}

// newWorld makes and starts n masters and event storage.
func newWorld(t *testing.T, s scenario) *world {
	t.Helper()
	w := &world{t: t, scenario: s, net: transport.NewSeededMemory(s.seed), root: t.TempDir(), tap: newTap(),
		up: map[event.MasterID]*member{}, ledger: newLedger(), states: newStates(), readers: map[event.MasterID]*replicaFeed{}}
	var list []string
	for i := range s.masters {
		id := event.MasterID(fmt.Sprintf("master-%d", i+1))
		w.ids, w.hosts = append(w.ids, id), append(w.hosts, string(id))
		list = append(list, fmt.Sprintf("%s=%s:7000/7001/7002", id, id))
		w.readers[id] = &replicaFeed{}
	}
	var err error
	if w.peers, err = master.ParsePeers(strings.Join(list, ",")); err != nil {
		t.Fatal(err)
	}
	w.hosts = append(w.hosts, eventsHost, "checker", frontHost)
	for i := range clients {
		w.hosts = append(w.hosts, clientHost(i))
	}
	for i := range max(agents, s.estates) {
		w.hosts = append(w.hosts, agentHost(i))
	}
	for i := range watchers {
		w.hosts = append(w.hosts, watcherHost(i))
	}
	w.heal()
	w.pool = transport.NewPool(transport.PoolConfig{Network: w.net.Host("checker")})
	w.startEvents()
	w.start(w.ids...)
	if s.estates > 0 {
		w.startEstates()
	} else {
		w.startAgents()
	}
	if s.watched {
		w.startWatchers()
	}
	return w
}

// fault takes a promise that was broken; nil is none.
func (w *world) fault(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, err)
}

func (w *world) faultf(format string, args ...any) { w.fault(fmt.Errorf(format, args...)) }

// broken is the promises that were broken so far.
func (w *world) broken() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.faults)
}

// heal gives all links their usual delay.
func (w *world) heal() {
	for _, from := range w.hosts {
		for _, to := range w.hosts {
			w.net.SetLink(from, to, usual(from, to))
		}
	}
}

func usual(from, to string) transport.Link {
	if from == to {
		return transport.Link{}
	}
	return transport.Link{Delay: 300 * time.Microsecond, Jitter: 400 * time.Microsecond}
}

// cut sets the links between a host and others in one or both directions.
func (w *world) cut(from, to []string) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				w.net.SetLink(a, b, transport.Link{Cut: true})
			}
		}
	}
}

func (w *world) masterHosts() []string { return w.hosts[:len(w.ids)] }

func (w *world) config(id event.MasterID) master.Config {
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Dir, cfg.Peers, cfg.Bootstrap = id, filepath.Join(w.root, string(id)), w.peers, true
	cfg.Network = w.net.Host(string(id))
	cfg.EventSink = eventsHost + ":50052"
	cfg.Replicas = 5 // more than there are nodes: no shards are made
	cfg.Raft.SegmentBytes = 256 << 10
	cfg.Raft.SnapshotThreshold, cfg.Raft.TrailingLogs = 120, 40 // so that snapshots are taken, sent and restored in every run
	cfg.Log = slog.New(w.tap.of(string(id)))
	if w.estates > 0 {
		cfg.Shards, cfg.Replicas = 2, uint32(cmp.Or(w.replicas, 3))
	}
	if w.point != nil {
		cfg.Point = func(l labels.Label) { w.point(string(id), l) }
	}
	if w.tune != nil {
		w.tune(&cfg)
	}
	if w.machine != nil {
		cfg.Machine = func(real raftgroup.FSM) raftgroup.FSM { return w.machine(id, real) }
	}
	return cfg
}

// start opens masters, all at once.
func (w *world) start(ids ...event.MasterID) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range ids {
		w.net.Up(string(id))
		wg.Go(func() {
			m, err := master.Open(ctx, w.config(id))
			if err != nil {
				w.t.Errorf("open %s: %v", id, err)
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.up[id] = w.observe(id, m)
		})
	}
	wg.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// observe compares every state a master publishes with those of the others.
func (w *world) observe(id event.MasterID, m *master.Master) *member {
	ctx, cancel := context.WithCancel(context.Background())
	mem := &member{Master: m, watching: make(chan struct{}), stop: cancel}
	go func() {
		defer close(mem.watching)
		for {
			changed := m.Changed()
			w.fault(w.states.see(id, m.View()))
			select {
			case <-changed:
			case <-m.Done():
				w.fault(fmt.Errorf("%s cannot go on: %w", id, m.Err()))
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return mem
}

// take removes a master from those that run.
func (w *world) take(id event.MasterID) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.up[id]
	delete(w.up, id)
	return m
}

// crash ends a master abruptly; its peers are told by its machine, unless that is cut off.
func (w *world) crash(id event.MasterID) {
	m := w.take(id)
	if m == nil {
		return
	}
	w.net.Down(string(id))
	m.stop()
	<-m.watching
	w.states.forget(id)
	w.readers[id].read -= min(w.readers[id].read, overlap) // it may have another feed when it comes back
	if err := m.Abort(); err != nil {
		w.t.Errorf("crash %s: %v", id, err)
	}
}

// running is the masters that are up, in order.
func (w *world) running() []event.MasterID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []event.MasterID
	for _, id := range w.ids {
		if w.up[id] != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *world) member(id event.MasterID) *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up[id]
}

// restart starts every master that is down.
func (w *world) restart() {
	w.t.Helper()
	var down []event.MasterID
	for _, id := range w.ids {
		if w.member(id) == nil {
			down = append(down, id)
		}
	}
	w.start(down...)
}

func (w *world) startEvents() {
	w.t.Helper()
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Events, cfg.Network = filepath.Join(w.root, eventsHost), eventsHost+":50052", true, w.net.Host(eventsHost)
	cfg.Dimension, cfg.Groups.SegmentBytes, cfg.CacheBytes = 4, 1<<20, 8<<20
	cfg.Log = slog.New(w.tap.of(eventsHost))
	w.net.Up(eventsHost)
	n, err := storagenode.Open(cfg)
	if err != nil {
		w.t.Fatalf("open event storage: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.feed = n
}

// stopEvents takes event storage away.
func (w *world) stopEvents() {
	w.mu.Lock()
	n := w.feed
	w.feed = nil
	w.mu.Unlock()
	if n == nil {
		return
	}
	w.net.Down(eventsHost)
	if err := n.Close(); err != nil {
		w.t.Errorf("close event storage: %v", err)
	}
}

// close ends everything.
func (w *world) close() {
	w.heal()
	for _, restart := range w.dead {
		restart()
	}
	for _, o := range w.observers {
		o.close()
	}
	for _, h := range w.homesteads {
		h.close()
	}
	for _, e := range w.settled {
		e.close()
	}
	for _, id := range w.ids {
		w.crash(id)
	}
	w.stopEvents()
	if err := w.pool.Close(); err != nil {
		w.t.Error(err)
	}
}

var errNoLeader = errors.New("no leader")

// leader waits for one that began to lead after term.
func (w *world) leader(after uint64) (event.MasterID, uint64, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		changed := w.tap.changed()
		if id, term := w.tap.leader(); term > after && w.member(id) != nil {
			return id, term, nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return "", 0, fmt.Errorf("%w after term %d within %s", errNoLeader, after, patience)
		}
	}
}
