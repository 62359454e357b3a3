package raftgroup

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// pointFields is what the encoding of a Point has: MessagePack [index, term, fsm index, level, time, index of the
// configuration, [id, votes, id, votes…]].
const pointFields = 7

// Point says which entry of the group a state is of: all that raft needs to go on behind it.
//
// Whoever takes over a state believes to hold the log up to Index, and must hold exactly that: with less it would acknowledge
// entries whose effects it lacks, with more a restart would find a state that its own log does not explain, which is how a lost
// log looks (startRule). So state and point are taken together, between two Applies (at).
type Point struct {
	Index, Term uint64 // the last entry
	FSMIndex    uint64 // the last entry up to there that the state machine was given
	Level       uint32 // of the vocabulary
	Time        int64  // of the last entry, µs UTC

	configuration configuration // the last one committed up to Index
}

func (p Point) header() snapshotHeader {
	return snapshotHeader{Level: p.Level, Index: p.Index, FSMIndex: p.FSMIndex, Time: p.Time}
}

// Encode is the form in which points travel; DecodePoint reads it.
func (p Point) Encode() []byte {
	b := pack.AppendArrayHeader(nil, pointFields)
	for _, v := range []uint64{p.Index, p.Term, p.FSMIndex, uint64(p.Level)} {
		b = pack.AppendUint(b, v)
	}
	b = pack.AppendInt(b, p.Time)
	return p.configuration.append(b)
}

// DecodePoint reads a point and refuses what no state is of.
func DecodePoint(b []byte) (p Point, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil || fields < pointFields {
		return p, fmt.Errorf("point: %d fields, want %d (%w)", fields, pointFields, err)
	}
	var errs [5]error
	p.Index, errs[0] = r.Uint()
	p.Term, errs[1] = r.Uint()
	p.FSMIndex, errs[2] = r.Uint()
	p.Level, errs[3] = readUint32(r, "level")
	p.Time, errs[4] = r.Int()
	if err := errors.Join(errs[:]...); err != nil {
		return p, fmt.Errorf("point: %w", err)
	}
	if p.configuration, err = readConfiguration(r); err != nil {
		return p, fmt.Errorf("point: %w", err)
	}
	if p.FSMIndex > p.Index {
		return p, fmt.Errorf("point: a state of entry %d is said to end at %d", p.FSMIndex, p.Index)
	}
	return p, p.configuration.check(p.Index, p.Term)
}

// errReplaying: the replica has just started and knows too little of what it holds to say which entry that is of.
var errReplaying = errors.New("this replica has just started: try again")

// at runs fix while the state stands still, and says which entry it is of. Behind that entry there may have been others that
// are not for the state machine, a barrier or a new leader's first; the newest snapshot knows of some, and the log may be gone
// up to its end, so the later of both is said.
func (m *machine) at(newest *raft.SnapshotMeta, fix func() error) (Point, error) {
	held, err := m.held()
	if err != nil {
		return Point{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.latch.err(); err != nil {
		return Point{}, err
	}
	conf := m.configuration.Load()
	switch {
	case m.replaying() && held.Index == m.skip:
		return held, fix()
	case m.replaying() || m.index == 0 || conf == nil:
		return Point{}, errReplaying
	}
	h := m.header()
	p := Point{Index: m.index, Term: m.term, FSMIndex: h.FSMIndex, Level: h.Level, Time: h.Time, configuration: *conf}
	if newest != nil && newest.Index > m.index {
		p.Index, p.Term, p.configuration = newest.Index, newest.Term, *configurationIn(newest)
	}
	return p, fix()
}

// held says which entry the state is of while entries come again that it holds; otherwise the point is empty. Raft does not
// know yet that they are committed, but they are, or they would not be in the state; so what the log says of them holds. It must
// not be waited for: a leader that has just started may need to send its state to whoever makes it a quorum.
func (m *machine) held() (p Point, err error) {
	m.mu.Lock()
	conf, from, to := m.configuration.Load(), m.index+1, m.skip
	p = Point{Level: m.level(), Time: m.lastTime.Load()}
	replaying := m.replaying()
	m.mu.Unlock()
	if !replaying {
		return Point{}, nil
	}
	var l raft.Log
	for i := from; i <= to; i++ {
		if err := m.entry(i, &l); err != nil {
			return p, fmt.Errorf("read entry %d, which the state holds: %w", i, err)
		}
		if l.Type == raft.LogConfiguration {
			conf = &configuration{l.Index, raft.DecodeConfiguration(l.Data).Servers}
		}
	}
	e, err := decodeEntry(m.group, l.Data) // the last one the state holds was for it
	if err != nil {
		return p, fmt.Errorf("read entry %d, which the state holds: %w", to, err)
	}
	if conf == nil {
		return p, errReplaying
	}
	p.Index, p.FSMIndex, p.Term, p.Time, p.configuration = to, to, l.Term, max(p.Time, e.Time), *conf
	return p, nil
}

// Fix runs fix between two Applies and says which entry the state is of meanwhile. The group applies nothing until it returns,
// so it must be quick. An error without a cause of its own: try again (a replica that has just started).
func (g *Group) Fix(fix func() error) (Point, error) {
	metas, err := g.stores.snapshots.List()
	if err != nil {
		return Point{}, err
	}
	var newest *raft.SnapshotMeta
	if len(metas) > 0 {
		newest = metas[0]
	}
	p, err := g.machine.at(newest, fix)
	if err != nil {
		return p, fmt.Errorf("fix the state of %s at %s: %w", g.cfg.GroupID, g.cfg.LocalID, err)
	}
	return p, nil
}

// append encodes a configuration: its index, and each member with its vote.
func (c configuration) append(b []byte) []byte {
	b = pack.AppendUint(b, c.index)
	b = pack.AppendArrayHeader(b, 2*len(c.servers))
	for _, s := range c.servers {
		b = pack.AppendString(b, string(s.ID))
		b = pack.AppendBool(b, s.Suffrage == raft.Voter)
	}
	return b
}

// readConfiguration reads what append wrote.
func readConfiguration(r *pack.Reader) (c configuration, err error) {
	if c.index, err = r.Uint(); err != nil {
		return c, err
	}
	n, err := r.ArrayLen()
	if err != nil || n%2 != 0 || n > 2*maxServers {
		return c, fmt.Errorf("%d ids and votes (%w)", n, err)
	}
	for range n / 2 {
		id, err1 := r.String()
		votes, err2 := r.Bool()
		if err := errors.Join(err1, err2); err != nil {
			return c, fmt.Errorf("member %d: %w", len(c.servers), err)
		}
		s := raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)}
		if votes {
			s.Suffrage = raft.Voter
		}
		c.servers = append(c.servers, s)
	}
	return c, nil
}

// check refuses what no group's configuration is at an entry.
func (c configuration) check(index, term uint64) error {
	voters, seen := 0, map[raft.ServerID]bool{}
	for _, s := range c.servers {
		if s.ID == "" || seen[s.ID] {
			return fmt.Errorf("member %q is nobody or listed twice", s.ID)
		}
		seen[s.ID] = true
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if index == 0 || term == 0 || c.index == 0 || c.index > index || voters == 0 {
		return fmt.Errorf("entry %d of term %d, configuration %d with %d voters: no snapshot is such", index, term, c.index, voters)
	}
	return nil
}
