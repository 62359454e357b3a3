package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/spool"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// session is the agent's conversation with the masters: it registers, sends heartbeats, receives assignments and hands over what
// is spooled. Nothing here decides anything about nodes, and nothing about nodes waits for it.
type session struct {
	cfg      *Config
	storeID  string
	endpoint string // of the agent's own port, as others reach it
	grid     string // pinned so far; owned by attend
	masters  *transport.Masters
	keeper   *keeper
	spool    *spool.Spool
	load     func() event.Load
	log      *slog.Logger

	registered chan struct{} // closed at the first registration of this run
}

// Time limits of one call; Masters repeats it within them at other masters.
const (
	registerTimeout  = 30 * time.Second
	heartbeatTimeout = 10 * time.Second
	emitTimeout      = 30 * time.Second
)

// attend registers and then sends heartbeats, and registers again when the masters do not know the agent. An error ends the agent:
// the masters belong to another grid.
func (s *session) attend(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.register(ctx); err != nil {
			return err
		}
		s.beat(ctx)
	}
	return nil
}

// register goes on until the masters accept the agent, ctx ends, or they refuse it for good.
func (s *session) register(ctx context.Context) error {
	pause := transport.Backoff{First: 100 * time.Millisecond, Max: 10 * time.Second}
	for ctx.Err() == nil {
		reply, err := call[transport.RegisterAgentOk](ctx, s.masters, registerTimeout, s.registration())
		switch {
		case err == nil:
			return s.accepted(ctx, reply)
		case errors.Is(err, &event.Error{Kind: event.KindRefused}):
			return err
		case ctx.Err() == nil:
			s.log.Warn("not registered yet; nodes are kept running meanwhile", "error", err)
		}
		_ = pause.Wait(ctx, 0) // ctx ends the loop
	}
	return nil
}

func (s *session) registration() *transport.RegisterAgent {
	return &transport.RegisterAgent{AgentID: s.cfg.ID, Hostname: hostname(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		AgentEndpoint: s.endpoint, MaxStorageNodes: s.cfg.MaxStorageNodes, Version: s.cfg.Version,
		Zone: s.cfg.Zone, Labels: s.cfg.Labels, StoreID: s.storeID, GridID: s.grid}
}

func (s *session) accepted(ctx context.Context, ok *transport.RegisterAgentOk) error {
	if err := s.keeper.pin(ctx, ok.GridID); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.grid = ok.GridID
	s.log.Info("registered", "grid", ok.GridID, "seq", ok.Seq)
	select {
	case <-s.registered:
	default:
		close(s.registered)
	}
	return nil
}

// beat sends heartbeats until the masters do not know the agent or ctx ends: at once, whenever a node changed, and regularly.
func (s *session) beat(ctx context.Context) {
	tick := time.NewTicker(s.cfg.HeartbeatEvery)
	defer tick.Stop()
	lost := false
	for ctx.Err() == nil {
		_, err := call[transport.HeartbeatOk](ctx, s.masters, heartbeatTimeout, s.heartbeat())
		switch {
		case errors.Is(err, &event.Error{Kind: event.KindUnknownAgent}):
			s.log.Warn("the masters do not know this agent; registering again", "error", err)
			return
		case err != nil && ctx.Err() == nil && !lost:
			s.log.Warn("no master takes the heartbeat; nodes are kept running meanwhile", "error", err)
			lost = true
		case err == nil && lost:
			s.log.Info("heartbeats are taken again")
			lost = false
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.keeper.changed:
		}
	}
}

func (s *session) heartbeat() *transport.Heartbeat {
	h := s.report()
	h.Load = s.load()
	return h
}

// report is a heartbeat without the load, which only attend reads.
func (s *session) report() *transport.Heartbeat {
	h := &transport.Heartbeat{AgentID: s.cfg.ID}
	status := s.keeper.status.Load()
	h.Revision = status.revision
	for _, n := range status.nodes {
		if !n.Wanted && n.Phase == Stopped {
			continue
		}
		if n.Phase == Running {
			h.StorageNodeCount++
		}
		h.Nodes = append(h.Nodes, event.NodeReport{NodeID: n.NodeID, Status: string(n.Phase), PID: uint32(n.PID), Endpoint: n.Endpoint, RestartCount: n.Restarts})
	}
	return h
}

// followAssignments holds the stream of assignments, at one master after another, until ctx ends.
func (s *session) followAssignments(ctx context.Context) error {
	if !s.awaitRegistration(ctx) {
		return nil
	}
	var pause transport.Backoff
	for ctx.Err() == nil {
		err := s.masters.Stream(ctx, func() any { return &transport.WatchAssignments{AgentID: s.cfg.ID} }, func(msg any) error {
			a, err := transport.As[transport.Assignments](msg, nil)
			if err != nil {
				return err
			}
			pause.Reset()
			s.keeper.assign(ctx, a)
			return nil
		})
		if ctx.Err() == nil { // for example: unknown until it has registered again
			s.log.Info("the stream of assignments ended; opening another", "error", err)
		}
		_ = pause.Wait(ctx, 0) // ctx ends the loop
	}
	return nil
}

// call is one exchange with the masters, within a time limit.
func call[T any](ctx context.Context, m *transport.Masters, limit time.Duration, req any) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return transport.As[T](m.Call(ctx, req))
}

func (s *session) awaitRegistration(ctx context.Context) bool {
	select {
	case <-s.registered:
		return true
	case <-ctx.Done():
		return false
	}
}

// emit hands spooled events over, oldest first, until ctx ends. An error means that an acknowledged event cannot be removed.
func (s *session) emit(ctx context.Context) error {
	if !s.awaitRegistration(ctx) {
		return nil
	}
	emitter := string(s.cfg.ID) + "." + s.storeID
	pause := transport.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}
	for ctx.Err() == nil {
		first, events, changed := s.spool.Batch(emitCount, emitBytes)
		if len(events) == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		reply, err := call[transport.EmitEventsOk](ctx, s.masters, emitTimeout, &transport.EmitEvents{Emitter: emitter, First: first, Events: events})
		if err == nil && reply.Through < first {
			err = fmt.Errorf("the masters know this emitter's events up to %d, the spool begins at %d", reply.Through, first)
		}
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("events are kept until a master takes them", "first", first, "count", len(events), "error", err)
			}
			_ = pause.Wait(ctx, 0) // ctx ends the loop
			continue
		}
		pause.Reset()
		if reply.Refused > 0 {
			s.log.Warn("the masters refused events for good", "count", reply.Refused, "first", first, "through", reply.Through, "types", types(events))
		}
		if err := s.spool.Ack(reply.Through); err != nil {
			return err
		}
	}
	return nil
}

// One EmitEvents stays well below a frame's 16 MiB and a raft entry's 1,024 commands.
const (
	emitCount = 256
	emitBytes = 1 << 20
)

func types(events []transport.EmittedEvent) []string {
	var names []string
	for _, e := range events {
		names = append(names, e.Type.String())
	}
	return slices.Compact(names)
}

// farewellTimeout bounds the last heartbeat: nobody should wait for a grid that is going down too.
const farewellTimeout = time.Second

// farewell tells the masters that the nodes are stopped, if one listens.
func (s *session) farewell() {
	select {
	case <-s.registered:
	default:
		return
	}
	if _, err := call[transport.HeartbeatOk](context.Background(), s.masters, farewellTimeout, s.report()); err != nil {
		s.log.Info("the masters were not told that the nodes are stopped", "error", err)
	}
}
