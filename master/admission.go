package master

import (
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/feed"
)

// admission keeps what a nearly full outbox must not take out of the log (safety S16). The leader decides by its applied state:
// what is on its way when a bound is reached still comes, which is at most what the raft group lets wait.
type admission struct {
	view    func() *fsm.State
	stats   *stats
	dropped atomic.Uint64 // telemetry, since this process began
	refused atomic.Uint64 // clients' commands, since this process began

	mu    sync.Mutex
	heard map[event.AgentID]struct{} // guarded by mu; agents whose heartbeat was dropped since the last Heard; all are registered
}

func newAdmission(view func() *fsm.State, s *stats) *admission {
	return &admission{view: view, stats: s, heard: map[event.AgentID]struct{}{}}
}

// Pass tells whether a command enters the log. Otherwise its sender gets either the answer, of a dropped one: it is done, and
// holds as of the leader's state; or the error, of kind feed_full.
func (a *admission) Pass(cmd *event.Command) (answer fsm.Answer, pass bool, err error) {
	s := a.view()
	dropped, refused := feed.Admit(s, cmd)
	switch {
	case refused != nil:
		a.refused.Add(1)
		a.stats.feedRefused.Inc()
		return fsm.Answer{}, false, refused
	case dropped:
		a.dropped.Add(1)
		a.stats.feedDropped.WithLabelValues(event.Info(cmd.Type).Class.String()).Inc()
		a.note(cmd)
		return fsm.Answer{Seq: s.Seq(), Epoch: s.Epoch()}, false, nil
	}
	return fsm.Answer{}, true, nil
}

// note keeps the one thing about a dropped heartbeat that somebody must know: the agent lives.
func (a *admission) note(cmd *event.Command) {
	if beat, is := cmd.Body.(event.AgentHeartbeat); is {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.heard[beat.AgentID] = struct{}{}
	}
}

// Heard takes the agents whose heartbeats were dropped since it was last called.
func (a *admission) Heard() map[event.AgentID]struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	heard := a.heard
	a.heard = map[event.AgentID]struct{}{}
	return heard
}
