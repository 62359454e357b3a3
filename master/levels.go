package master

import (
	"context"
	"strconv"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// raiseLevel puts a higher level in force as soon as every master supports it (safety S13): the last restart of a rolling
// upgrade ends it. Who wants to be able to go back first holds the level with the setting level.max.
func (o *office) raiseLevel(ctx context.Context) {
	s := o.replica.View()
	to := raisable(s, newest(o.members.config()), o.cfg.seams.supports)
	if to > s.Level() && o.note(ctx, event.LevelRaised{To: to}) {
		o.log.Info("level raised", "from", s.Level(), "to", to)
	}
}

// raisable is the highest level up to `to`, which the leader itself supports, that every member of the configuration supports, at
// most level.max; 0 while one of them is not on record as it is now. A level.max that is no number holds every level back.
func raisable(s *fsm.State, config []raftgroup.PeerStatus, to uint32) uint32 {
	for _, p := range config {
		m := s.Master(event.MasterID(p.ID.Owner()))
		if m == nil || m.ReplicaID != p.ID || m.Unreachable {
			return 0
		}
		to = min(to, m.Level)
	}
	if value, version := s.Setting(fsm.SettingLevelMax); version > 0 && value != "" {
		most, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return 0
		}
		to = min(to, uint32(most))
	}
	return to
}
