package raftgroup

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// startPlan is how raft begins on what the disk holds (safety S11).
type startPlan struct {
	keepState bool   // the FSM is at or ahead of the newest snapshot, which is not restored
	skip      uint64 // entries up to here are in the FSM
	first     uint64 // a snapshot that ends before this entry is refused; 0: any will do

	newest *raft.SnapshotMeta // nil: there is no snapshot
}

// startRule compares the FSM, the snapshots and the log. Together they must hold every entry from the first on, and the
// FSM must not be ahead of all that the log and the snapshots know.
func (g *Group) startRule() (startPlan, error) {
	metas, err := g.stores.snapshots.List()
	if err != nil {
		return startPlan{}, err
	}
	newest := uint64(0)
	var meta *raft.SnapshotMeta
	if len(metas) > 0 {
		newest, meta = metas[0].Index, metas[0]
		if err := g.stores.log.coveredBy(newest, metas[0].Term); err != nil {
			return startPlan{}, err
		}
	}
	first, err1 := g.stores.log.FirstIndex()
	last, err2 := g.stores.log.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return startPlan{}, err
	}
	applied := uint64(0)
	if g.cfg.Applied != nil {
		applied = g.cfg.Applied()
	}
	switch {
	case last == 0 && newest == 0 && !g.stores.stable.joining.Load():
		return startPlan{}, errors.New("the log is empty and there is no snapshot: the disk was emptied; replace this replica by a new one")
	case first > newest+1:
		gap := fmt.Errorf("the log begins at entry %d and the newest readable snapshot ends at %d: entries between are lost: %w", first, newest, ErrStateLost)
		return startPlan{}, errors.Join(g.stores.snapshots.damage, gap)
	case applied > max(last, newest):
		return startPlan{}, fmt.Errorf("the state holds entry %d and the log ends at %d: the log was lost or replaced; replace this replica by a new one", applied, max(last, newest))
	}
	if last != 0 || newest != 0 { // a crash may have come between the first entry and this
		if err := g.stores.log.began(); err != nil {
			return startPlan{}, err
		}
	}
	if len(metas) > 0 && (g.cfg.Applied == nil || applied < g.holdsAtLeast(metas[0])) {
		return startPlan{first: first}, nil // Restore tells the configuration
	}
	return startPlan{keepState: true, skip: applied, newest: meta}, nil
}

// begin takes over what the plan says; what is restored tells the rest by itself.
func (m *machine) begin(p startPlan) {
	m.first, m.skip = p.first, p.skip
	m.applied.set(p.skip)
	if p.newest != nil {
		m.index, m.term = p.newest.Index, p.newest.Term
		m.configuration.Store(configurationIn(p.newest))
	}
}

// holdsAtLeast is the entry an FSM must have applied to be no older than the snapshot: less than the snapshot's index when
// the last entries were not for the FSM. A snapshot that cannot be read is taken at its index.
func (g *Group) holdsAtLeast(meta *raft.SnapshotMeta) uint64 {
	_, content, err := g.stores.snapshots.stored(meta.ID)
	if err != nil {
		return meta.Index
	}
	defer content.Close()
	_, h, err := newChunkReader(content, g.cfg.GroupID)
	if err != nil {
		return meta.Index
	}
	return h.FSMIndex
}
