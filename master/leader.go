package master

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// loopPause is the wait before a leader loop that failed begins again.
const loopPause = time.Second

// leader is what the leading replica does beside answering. All of it runs under the context of one term, and proposes on
// this replica only: what a deposed leader still wants is refused by the log.
type leader struct {
	cfg      Config
	founding Founding
	replica  *replica
	proposer *proposer
	confirm  func(ctx context.Context) error // this replica leads now
	members  *members
	council  *council
	contacts func() []contact
	sweep    func(ctx context.Context) error
	ship     func(ctx context.Context) error
	inquiry  *inquiry
	handTo   func(ctx context.Context, id event.ReplicaID) error
	clock    *logClock
	ready    <-chan struct{} // closed when everything above is there
	log      *slog.Logger
}

// office is one term of a leader.
type office struct {
	*leader
	term    uint64
	started time.Time
	frozen  gate // shut while too many agents went silent at once
	said    lastWords
}

// lastWords keeps a loop from saying at every look what it said at the one before.
type lastWords struct {
	mu  sync.Mutex
	say map[string]string // guarded by mu; what was last said of something
}

// New tells whether what there is to say of something, "" for nothing, is not what was said last.
func (l *lastWords) New(of, word string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.say[of] == word {
		return false
	}
	if l.say == nil {
		l.say = map[string]string{}
	}
	l.say[of] = word
	return word != ""
}

// Run does the leader's work until the term ends.
func (l *leader) Run(ctx context.Context, term uint64) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return
	}
	o := &office{leader: l, term: term, started: time.Now()}
	l.clock.TakeOffice(l.replica.View().Time())
	o.keep(ctx, "begin", o.begin)
	var wg sync.WaitGroup
	for _, loop := range []struct {
		name string
		run  func(ctx context.Context) error
	}{
		{"equip", o.equip},
		{"agents' health", o.watchAgents},
		{"masters' reachability", o.watchMasters},
		{"placement", o.reconcile},
		{"transactions", l.sweep},
		{"feed", l.ship},
		{"state checks", o.watchStates},
		{"clocks", o.watchClocks},
	} {
		wg.Go(func() { o.keep(ctx, loop.name, loop.run) })
	}
	wg.Wait()
}

// keep runs a loop until it is done or the term is over; one that fails begins again.
func (o *office) keep(ctx context.Context, name string, run func(ctx context.Context) error) {
	for {
		err := run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		o.log.Error("leader work failed, begins again", "work", name, "term", o.term, "err", err)
		if pause(ctx, loopPause) != nil {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// begin brings what comes first in a grid, as far as the state does not have it, and this term's first event.
func (o *office) begin(ctx context.Context) error {
	s := o.replica.View()
	if s.Seq() == 0 {
		if err := o.record(ctx, event.IncarnationStarted{GridID: o.founding.GridID, Incarnation: o.founding.Incarnation,
			Reason: "formed", Level: o.cfg.seams.foundAt}); err != nil {
			return err
		}
	}
	if s.Master(o.cfg.ID) == nil { // later, nobody who is away shall hold up the term
		if err := o.members.Introduce(ctx); err != nil {
			return err
		}
	}
	previous, term := s.Leader()
	if term >= o.term {
		return nil
	}
	return o.record(ctx, event.LeaderElected{MasterID: o.cfg.ID, Term: o.term, Previous: previous})
}

// equip gives a new grid its event sink and its shard map.
func (o *office) equip(ctx context.Context) error {
	s := o.replica.View()
	if o.cfg.EventSink != "" && firstSink(s) == "" {
		if err := o.record(ctx, event.SinkAdded{Sink: "events", Address: o.cfg.EventSink, Class: "grid"}); err != nil {
			return err
		}
	}
	if _, shards, _ := s.MapConfig(); shards == 0 {
		return o.record(ctx, event.ShardMapCreated{Strategy: shardmap.StrategyHash, Shards: o.cfg.Shards, Replicas: o.cfg.Replicas})
	}
	return nil
}

// record proposes one event of the leader's own and expects it to be accepted.
func (l *leader) record(ctx context.Context, body event.Body) error {
	_, err := accepted(l.proposer.Here(ctx, event.Command{Actor: string(l.cfg.ID), Type: body.Type(), Body: body}))
	return err
}

// note proposes what the leader saw. It is planned again from the state if it is refused or does not come through, so
// neither ends the loop.
func (o *office) note(ctx context.Context, body event.Body) bool {
	err := o.record(ctx, body)
	what := body.Type().String()
	switch {
	case err == nil:
		o.said.New(what, "")
	case ctx.Err() != nil:
	case errors.Is(err, &event.Error{Kind: event.KindConflict}): // the state moved on meanwhile
		o.log.Debug("event not recorded", "type", what, "err", err)
	case o.said.New(what, err.Error()):
		o.log.Warn("event not recorded", "type", what, "err", err)
	}
	return err == nil
}
