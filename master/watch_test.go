package master

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/transport"
)

const watchAddr = "m:7002"

// watchRig is what serves watches, on a network in virtual time; the test plays the rest of the master.
type watchRig struct {
	t      *testing.T
	net    *transport.Memory
	outbox *feed.Outbox
	leads  *throne
	stats  *stats
	pool   *transport.Pool
	logged *bytes.Buffer

	chain event.Chain
	at    int64 // log time of the last event, µs
}

// inRig runs a test in a bubble.
func inRig(t *testing.T, keep int64, test func(t *testing.T, r *watchRig)) {
	synctest.Test(t, func(t *testing.T) {
		o := feed.DefaultOutboxOptions()
		o.FS, o.KeepAge, o.KeepBytes = vfs.NewMem(), time.Hour, keep
		outbox, err := feed.OpenOutbox("outbox", o)
		if err != nil {
			t.Fatal(err)
		}
		leads, _ := newThrone(t, "master-1.x")
		r := &watchRig{t: t, net: transport.NewMemory(), outbox: outbox, leads: leads, stats: newStats(), logged: &bytes.Buffer{}, at: 1_700_000_000_000_000}
		r.pool = transport.NewPool(transport.PoolConfig{Network: r.net})
		log := slog.New(slog.NewTextHandler(r.logged, nil))
		machine := fsm.NewMachine()
		w := &watches{view: machine.View, read: func(context.Context) (*fsm.State, error) { return machine.View(), nil }, mapped: &signal{}, fleet: &signal{},
			outbox: outbox, group: leads, incarnation: ours, keepAlive: 5 * time.Second, stats: r.stats.watches, log: log}
		table := dispatch{}
		onStream(table, w.ShardMap)
		onStream(table, w.Events)
		server := transport.NewServer(transport.ServerConfig{Name: "grid", Log: log, Limits: transport.Limits{Send: DefaultConfig().Limits.Stall},
			Handler: func(ctx context.Context, s *transport.Session, req any) (any, error) {
				return table[reflect.TypeOf(req)](ctx, s, req)
			}})
		l, err := r.net.Listen(watchAddr)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := server.Serve(context.Background(), l); err != nil {
				t.Error(err)
			}
		})
		defer func() {
			if err := errors.Join(r.pool.Close(), server.Close()); err != nil {
				t.Error(err)
			}
			wg.Wait()
			for k := range streamKinds {
				if n := r.stats.watches.now[k].Load(); n != 0 {
					t.Errorf("%d watchers of %s are left", n, streamTraits[k].what)
				}
			}
			if err := outbox.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, r)
	})
}

// ours is the incarnation that the rig is in.
var ours = event.Incarnation{N: 2, Random: [8]byte{7}}

// add appends events, one entry each.
func (r *watchRig) add(bodies ...event.Body) {
	r.t.Helper()
	for _, body := range bodies {
		r.at += 1000
		e := &event.Envelope{Seq: r.outbox.Last() + 1, RaftIndex: r.outbox.Last() + 5, Type: body.Type(), Time: r.at, Actor: "test", Body: body}
		b, err := event.Seal(nil, r.chain, e)
		if err != nil {
			r.t.Fatal(err)
		}
		r.chain = e.Chain
		if err := r.outbox.Append(e.RaftIndex, []fsm.Record{{Seq: e.Seq, Type: e.Type, Bytes: b}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// settings appends n settings of some size.
func (r *watchRig) settings(n, size int) {
	r.t.Helper()
	for range n {
		r.add(event.SettingChanged{Key: "k", Value: strings.Repeat("v", size), Version: r.outbox.Last() + 1})
	}
}

// watch follows events until stop says so or limit has passed, and returns the messages that came and the end.
func (r *watchRig) watch(req *transport.WatchEvents, limit time.Duration, stop func(*transport.EventsOk) bool) (got []*transport.EventsOk, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err = r.pool.Stream(ctx, watchAddr, req, func(msg any) error {
		got = append(got, msg.(*transport.EventsOk))
		if stop(got[len(got)-1]) {
			return transport.ErrStop
		}
		return nil
	})
	return got, err
}

// ended is how many watches of events ended for a reason.
func (r *watchRig) ended(reason string) (n float64) {
	r.t.Helper()
	families, err := r.stats.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "grid_watch_ended_total" && labels["stream"] == "events" && labels["reason"] == reason {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func never(*transport.EventsOk) bool { return false }

func refusal(t *testing.T, err error) *event.Error {
	t.Helper()
	var e *event.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no error of the grid", err)
	}
	return e
}

func seqsOf(t *testing.T, got []*transport.EventsOk) (seqs []uint64) {
	t.Helper()
	for _, m := range got {
		for _, b := range m.Events {
			e, err := event.DecodeEnvelope(b)
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

// TestWatchBeginsWhereItIsTold: from a seq, from now, from one that is still to come, which is waited for.
func TestWatchBeginsWhereItIsTold(t *testing.T) {
	for _, tc := range []struct{ from, first uint64 }{{1, 1}, {17, 17}, {20, 20}, {21, 21}, {0, 21}, {25, 25}} {
		inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
			r.settings(20, 1)
			time.AfterFunc(time.Minute, func() { r.settings(10, 1) }) // far beyond keep-alives
			began := time.Now()
			got, err := r.watch(&transport.WatchEvents{From: tc.from}, 2*time.Minute, func(m *transport.EventsOk) bool { return m.Last == 30 })
			if err != nil {
				t.Fatalf("from %d: %v", tc.from, err)
			}
			seqs := seqsOf(t, got)
			for i, seq := range seqs {
				if seq != tc.first+uint64(i) {
					t.Fatalf("from %d: event %d came as number %d", tc.from, seq, i)
				}
			}
			if want := int(30 - tc.first + 1); len(seqs) != want || time.Since(began) != time.Minute {
				t.Errorf("from %d: %d events within %s, want %d", tc.from, len(seqs), time.Since(began), want)
			}
			if first := got[0]; first.Incarnation != ours {
				t.Errorf("from %d: the first message says incarnation %v", tc.from, first.Incarnation)
			}
			// Each mark is a position from which nothing is missed or repeated.
			for i, m := range got {
				if later := seqsOf(t, got[i+1:]); len(later) > 0 && later[0] != m.Last+1 {
					t.Errorf("from %d: behind a mark of %d came %d", tc.from, m.Last, later[0])
				}
			}
		})
	}
}

// TestWatchOfAnotherHistory: a position means something in its own incarnation only (safety S2).
func TestWatchOfAnotherHistory(t *testing.T) {
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		r.settings(3, 1)
		for name, tc := range map[string]struct {
			incarnation event.Incarnation
			kind        event.Kind
		}{
			"an earlier one":             {event.Incarnation{N: 1, Random: [8]byte{9}}, event.KindOldIncarnation},
			"another of the same number": {event.Incarnation{N: 2, Random: [8]byte{8}}, event.KindOldIncarnation},
			"a later one":                {event.Incarnation{N: 3, Random: [8]byte{1}}, event.KindUnavailable},
			"this one":                   {ours, ""},
			"none":                       {event.Incarnation{}, ""},
		} {
			got, err := r.watch(&transport.WatchEvents{From: 2, Incarnation: tc.incarnation}, time.Minute, func(m *transport.EventsOk) bool { return m.Last == 3 })
			if tc.kind == "" {
				if err != nil || len(seqsOf(t, got)) != 2 {
					t.Errorf("%s: %v, %d messages", name, err, len(got))
				}
				continue
			}
			e := refusal(t, err)
			if e.Kind != tc.kind || len(got) > 0 || tc.kind == event.KindOldIncarnation && e.Incarnation != ours {
				t.Errorf("%s: %+v after %d messages", name, e, len(got))
			}
			shards := &transport.WatchShardMap{Epoch: event.Position{N: tc.incarnation.N, Seq: 5}, Incarnation: tc.incarnation}
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			err = r.pool.Stream(ctx, watchAddr, shards, func(any) error { return transport.ErrStop })
			cancel()
			if want := tc.kind; name != "an earlier one" && refusal(t, err).Kind != want {
				t.Errorf("%s, the shard map: %v, want %s", name, err, want)
			} else if name == "an earlier one" && err != nil && !errors.Is(err, &event.Error{Kind: event.KindUnavailable}) {
				t.Errorf("an earlier map is replaced, not refused: %v", err)
			}
		}
	})
}

// TestFilteredWatchKeepsItsPlace: what is filtered out is progress too, said at once and every keep-alive period; a watch that is
// begun again behind any mark sees the rest exactly.
func TestFilteredWatchKeepsItsPlace(t *testing.T) {
	crash := event.NodeCrashed{NodeID: "node-7", AgentID: "agent-1", Signal: "SIGKILL", Start: 1}
	other := event.NodeCrashed{NodeID: "node-8", AgentID: "agent-1", Signal: "SIGKILL", Start: 1}
	for name, filter := range map[string]event.Filter{
		"type and entity":  {Types: []event.Type{event.TypeNodeCrashed, event.TypeAgentOffline}, Entities: []string{"node-7", "agent-9"}},
		"kind and entity":  {Kinds: []string{event.EntityNode}, Entities: []string{"node-7"}},
		"class and entity": {Classes: "LT", Entities: []string{"node-7"}},
	} {
		inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
			r.settings(2000, 100)
			r.add(crash, other)
			r.settings(500, 100)
			stop := make(chan struct{})
			var busy sync.WaitGroup
			busy.Go(func() { // others' events, all the time
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for n := 1; ; n++ {
					select {
					case <-stop:
						return
					case <-tick.C:
						r.settings(1, 1)
						if n == 200 {
							r.add(crash)
						}
					}
				}
			})
			began := time.Now()
			var gaps []time.Duration
			last := began
			got, err := r.watch(&transport.WatchEvents{From: 1, Filter: filter}, time.Minute, func(m *transport.EventsOk) bool {
				gaps = append(gaps, time.Since(last))
				last = time.Now()
				return time.Since(began) > 40*time.Second
			})
			close(stop)
			busy.Wait()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			seqs := seqsOf(t, got)
			if len(seqs) != 2 || seqs[0] != 2001 || len(got) > 15 {
				t.Fatalf("%s: events %v in %d messages", name, seqs, len(got))
			}
			for i, m := range got {
				if gaps[i] > 5100*time.Millisecond || i > 0 && m.Last < got[i-1].Last {
					t.Errorf("%s: message %d came after %s at %d, behind %d", name, i, gaps[i], m.Last, got[max(i-1, 0)].Last)
				}
				rest := seqsOf(t, got[i+1:])
				again, err := r.watch(&transport.WatchEvents{From: m.Last + 1, Filter: filter}, time.Minute, func(a *transport.EventsOk) bool {
					return a.Last >= got[len(got)-1].Last || len(a.Events) > 0 && a.Last >= seqs[1]
				})
				if err != nil || len(seqsOf(t, again)) != len(rest) {
					t.Errorf("%s: again from %d: %v, %v, want %v", name, m.Last+1, seqsOf(t, again), err, rest)
				}
			}
		})
	}
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		for _, f := range []event.Filter{{Classes: "X"}, {Kinds: []string{"nod"}}, {Entities: []string{""}}} {
			if _, err := r.watch(&transport.WatchEvents{Filter: f}, time.Minute, never); refusal(t, err).Kind != event.KindInvalid {
				t.Errorf("%+v: %v", f, err)
			}
		}
	})
}

// TestTrimmedAndLagging: what is no longer kept is said with figures, at the beginning and to one that fell behind.
func TestTrimmedAndLagging(t *testing.T) {
	inRig(t, 40<<10, func(t *testing.T, r *watchRig) {
		r.settings(400, 1000)
		slow := r.stalled(1)
		defer slow()
		synctest.Wait() // it has what fits on its way
		if err := r.outbox.Trim(400); err != nil {
			t.Fatal(err)
		}
		oldest := r.outbox.First()
		if oldest < 300 {
			t.Fatalf("only %d events were trimmed", oldest-1)
		}
		got, err := r.watch(&transport.WatchEvents{From: 7}, time.Minute, never)
		if e := refusal(t, err); e.Kind != event.KindTrimmed || e.Oldest != oldest || e.ResumeFrom != 7 || len(got) > 0 {
			t.Errorf("%+v after %d messages, the oldest is %d", e, len(got), oldest)
		}
		last := uint64(0)
		_, err = r.watch(&transport.WatchEvents{From: oldest}, time.Minute, func(m *transport.EventsOk) bool {
			if m.Last == 400 { // everything: now it sleeps over more than is kept
				r.settings(2000, 1000) // more than fits on the way
				time.Sleep(time.Second)
				if err := r.outbox.Trim(2400); err != nil {
					t.Error(err)
				}
			}
			last = m.Last
			return false
		})
		if e := refusal(t, err); e.Kind != event.KindLagging || e.ResumeFrom != last+1 || e.Oldest != r.outbox.First() || e.Oldest <= e.ResumeFrom {
			t.Errorf("%+v behind %d, the oldest is %d", e, last, r.outbox.First())
		}
		if r.ended("trimmed") != 1 || r.ended("lagging") != 1 {
			t.Errorf("counted: trimmed %v, lagging %v", r.ended("trimmed"), r.ended("lagging"))
		}
	})
}

// stalled begins a watch that never reads.
func (r *watchRig) stalled(from uint64) (end func()) {
	r.t.Helper()
	conn, err := r.net.Dial(context.Background(), watchAddr)
	if err != nil {
		r.t.Fatal(err)
	}
	frame, err := transport.AppendFrame(nil, &transport.WatchEvents{From: from})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := conn.Write(frame); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			r.t.Error(err)
		}
	}
}

// TestStalledWatcherIsCutOff after the documented time, counted and reported; one that is idle with nothing to take is not.
func TestStalledWatcherIsCutOff(t *testing.T) {
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		stall := DefaultConfig().Limits.Stall
		idle := r.stalled(0)
		defer idle()
		r.settings(1000, 1000)
		defer r.stalled(1)()
		time.Sleep(stall - time.Second)
		if n := r.stats.watches.now[streamEvents].Load(); n != 2 || r.ended(endStalled) != 0 {
			t.Fatalf("%d watchers, %v cut off before the limit", n, r.ended(endStalled))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := r.stats.watches.now[streamEvents].Load(); r.ended(endStalled) == 0 || n > 1 {
			t.Errorf("%d watchers, %v cut off behind the limit", n, r.ended(endStalled))
		}
		if !strings.Contains(r.logged.String(), "took nothing") || !strings.Contains(r.logged.String(), "stream=events") {
			t.Errorf("the log says %q", r.logged)
		}
	})
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		end := r.stalled(0)
		time.Sleep(10 * time.Minute)
		if n := r.stats.watches.now[streamEvents].Load(); n != 1 {
			t.Errorf("an idle watcher was cut off")
		}
		end()
		synctest.Wait()
		if r.ended(endLeft) != 1 {
			t.Error("a watcher that left is not counted as such")
		}
	})
}

// slowWatcherBound is what a watcher that takes nothing may cost in this test, the network's own 64 KiB window in both directions
// included. The figure stated in streamTraits is without that.
const slowWatcherBound = 450 << 10

// TestSlowWatchers: a thousand that take nothing hold a bounded amount of memory, and hold up nobody: not what is appended, not
// what is trimmed, not one that reads.
func TestSlowWatchers(t *testing.T) {
	inRig(t, 512<<10, func(t *testing.T, r *watchRig) {
		const watchers, events = 1000, 2000
		r.settings(events, 1000) // 2 MiB: an unbounded buffer would hold that for each
		before := heap()
		for range watchers {
			defer r.stalled(1)()
		}
		synctest.Wait()
		cost := (heap() - before) / watchers
		t.Logf("%d KiB of heap for each of %d watchers that take nothing", cost>>10, watchers)
		if cost > slowWatcherBound {
			t.Errorf("%d bytes for each watcher, at most %d are allowed", cost, slowWatcherBound)
		}
		began := time.Now()
		go r.settings(500, 100)
		got, err := r.watch(&transport.WatchEvents{From: 1}, time.Second, func(m *transport.EventsOk) bool { return m.Last == events+500 })
		if err != nil || len(seqsOf(t, got)) != events+500 {
			t.Errorf("a watcher that reads: %v", err)
		}
		if err := r.outbox.Trim(events + 500); err != nil || r.outbox.First() < 1000 {
			t.Errorf("trimmed to %d only: %v", r.outbox.First(), err)
		}
		if took := time.Since(began); took != 0 { // of virtual time: nobody waited for anybody
			t.Errorf("held up for %s", took)
		}
		synctest.Wait() // the one that reads has left
		if n := r.stats.watches.now[streamEvents].Load(); n != watchers {
			t.Errorf("%d of %d slow watchers are there", n, watchers)
		}
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestWatchersAreCounted: one more than the limit is refused clearly, other streams have room of their own, and a place is free
// again when its watcher has left.
func TestWatchersAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newWatchStats(registry)
	w := &watches{stats: s, log: slog.New(slog.DiscardHandler)}
	for range maxEventWatchers {
		if !s.enter(streamEvents) {
			t.Fatal("refused below the limit")
		}
	}
	ran := errors.New("ran")
	run := func(k stream) error { return w.serve(t.Context(), nil, k, func() error { return ran }) }
	if e := refusal(t, run(streamEvents)); e.Kind != event.KindBusy || e.RetryAfterMillis == 0 || !strings.Contains(e.Message, "1024") {
		t.Errorf("%+v", e)
	}
	if err := run(streamShardMap); err != ran {
		t.Error(err)
	}
	s.leave(streamEvents)
	if err := run(streamEvents); err != ran {
		t.Error(err)
	}
	if n := s.now[streamEvents].Load(); n != maxEventWatchers-1 {
		t.Errorf("%d watchers", n)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, f := range families {
		names[f.GetName()] = len(f.GetMetric())
	}
	if names["grid_watchers"] != int(streamKinds) || names["grid_watchers_limit"] != int(streamKinds) || names["grid_watch_ended_total"] != 3 {
		t.Errorf("metrics: %v", names)
	}
}

// TestWatchersLeaveAMasterWithoutLeader, and one whose map is behind theirs.
func TestWatchersLeaveAMasterWithoutLeader(t *testing.T) {
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		time.AfterFunc(30*time.Second, func() { r.leads.set("") })
		began := time.Now()
		_, err := r.watch(&transport.WatchEvents{}, time.Hour, never)
		if took := time.Since(began); refusal(t, err).Kind != event.KindUnavailable || took < 30*time.Second || took > 45*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
	inRig(t, 1<<30, func(t *testing.T, r *watchRig) {
		began := time.Now()
		err := r.pool.Stream(t.Context(), watchAddr, &transport.WatchShardMap{Epoch: event.Position{N: 2, Seq: 9}}, func(msg any) error {
			t.Errorf("a map of epoch %v", msg.(*transport.ShardMapOk).Map.Epoch)
			return nil
		})
		if refusal(t, err).Kind != event.KindUnavailable || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
