package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// adoptAll finds the processes an earlier run of the agent left, and reports those that ended meanwhile.
func (k *keeper) adoptAll() error {
	for i := range k.journal.record.Nodes {
		r := &k.journal.record.Nodes[i]
		if !r.Phase.alive() {
			continue // Crashed: due at once
		}
		if err := k.adopt(r, k.live(r.NodeID)); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) adopt(r *NodeRecord, l *live) error {
	if r.Ref == "" { // the agent ended before there was a process, or before it was recorded and let run
		return k.lost(r)
	}
	in, err := k.cfg.Platform.Adopt(r.Ref, k.spec(r))
	if errors.Is(err, platform.ErrGone) {
		return k.lost(r)
	}
	if err != nil {
		return fmt.Errorf("adopt %s: %w", r.NodeID, err)
	}
	k.log.Info("adopted node", "node", r.NodeID, "pid", r.PID, "phase", r.Phase)
	l.adopted, l.due = true, time.Now().Add(k.cfg.StartPatience)
	l.crashes.ready = time.Now()
	if r.Phase == Stopping {
		l.due = time.Now() // its patience began in the earlier run
	}
	k.watch(r, l, in)
	return nil
}

// lost records a process that ended while no agent watched. A start that was never reported as ready leaves nothing to report:
// what was said last (never ran, or crashed) is still so.
func (k *keeper) lost(r *NodeRecord) error {
	phase := r.Phase
	r.Ref, r.PID, r.Phase = "", 0, Stopped
	switch {
	case phase == Stopping && !r.Wanted:
		return k.journal.commit(event.StopSucceeded{NodeID: r.NodeID, AgentID: k.cfg.ID})
	case phase == Running:
		k.log.Error("node ended while the agent was away", "node", r.NodeID, "start", r.Start)
		r.Phase, r.Crashed = Crashed, true
		return k.journal.commit(k.crashed(r, platform.Exit{}))
	}
	return k.journal.commit(nil)
}

// stopAll ends every process in good order, without reporting: nobody asked for it, and at the next start they run again.
func (k *keeper) stopAll() error {
	for i := range k.journal.record.Nodes {
		if r := &k.journal.record.Nodes[i]; r.Phase == Starting || r.Phase == Running {
			if err := k.terminate(r, k.live(r.NodeID)); err != nil {
				return err
			}
		}
	}
	patience := time.NewTimer(k.cfg.StopPatience)
	defer patience.Stop()
	killed := false
	for slices.ContainsFunc(k.actual(), func(n Actual) bool { return n.Phase.alive() }) {
		k.publish()
		select {
		case n := <-k.notices:
			if err := k.take(n); err != nil {
				return err
			}
		case <-patience.C:
			if killed {
				return errors.New("a storage node still runs after it was killed")
			}
			if err := k.killAll(); err != nil {
				return err
			}
			killed = true
			patience.Reset(killPatience)
		}
	}
	k.publish()
	return nil
}

func (k *keeper) killAll() error {
	for id, l := range k.nodes {
		if l.instance == nil {
			continue
		}
		k.log.Warn("killing node: its time is over", "node", id)
		if err := l.instance.Kill(); err != nil {
			return fmt.Errorf("kill %s: %w", id, err)
		}
	}
	return nil
}
