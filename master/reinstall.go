package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
)

// reinstallFile is the marker's name in the data directory.
const reinstallFile = "reinstall.json"

// reinstallsWithin is the time in which a state is installed anew once; what differs again has a cause that taking the state
// does not cure.
const reinstallsWithin = time.Hour

// reinstallLimit is how long one master may take to hand its state over: gigabytes over a slow link.
const reinstallLimit = 10 * time.Minute

// reinstallRecord says that this replica's state has to be replaced before it serves again, and when that was done before.
type reinstallRecord struct {
	Pending bool              `json:"pending"`
	AtIndex uint64            `json:"at_index"` // the comparison that the state did not pass
	AtSeq   uint64            `json:"at_seq"`
	Agree   []event.ReplicaID `json:"agree"` // who has the majority's state
	Marked  []time.Time       `json:"marked"`
	Known   []knownMaster     `json:"known,omitempty"` // where the masters listened, as far as this one knew, best first
}

// knownMaster is where a master may listen.
type knownMaster struct {
	ID   event.MasterID `json:"id"`
	Raft string         `json:"raft"` // host:port
}

// markers keeps the record in a data directory.
type markers struct {
	dir   *datadir.Dir
	now   func() time.Time
	known func() Peers // where the masters listen; nil: the record keeps what it has
}

// Mark makes durable that the state differs. It has to be done before the process ends.
func (m *markers) Mark(check event.StateChecked) error {
	r, err := m.Read()
	if err != nil {
		return err
	}
	now := m.now().UTC()
	r.Marked = append(slices.DeleteFunc(r.Marked, func(at time.Time) bool { return now.Sub(at).Abs() > reinstallsWithin }), now)
	r.Pending, r.AtIndex, r.AtSeq, r.Agree = true, check.AtIndex, check.AtSeq, check.Agree
	if m.known != nil {
		r.Known = nil
		for _, p := range m.known() {
			r.Known = append(r.Known, knownMaster{ID: p.ID, Raft: p.Raft})
		}
	}
	return m.write(r)
}

// Done says that the state was replaced.
func (m *markers) Done() error {
	r, err := m.Read()
	if err != nil {
		return err
	}
	r.Pending = false
	return m.write(r)
}

// Read returns the zero record when the state never differed.
func (m *markers) Read() (r reinstallRecord, err error) {
	path := m.dir.Path(reinstallFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (m *markers) write(r reinstallRecord) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", reinstallFile, err)
	}
	if err := datadir.WriteFileAtomic(m.dir.Path(reinstallFile), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", m.dir.Path(reinstallFile), err)
	}
	return nil
}

// tooOften says why the state is not taken once more.
func (r reinstallRecord) tooOften(now time.Time) error {
	recent := 0
	for _, at := range r.Marked {
		if now.Sub(at).Abs() <= reinstallsWithin {
			recent++
		}
	}
	if recent < 2 {
		return nil
	}
	return fmt.Errorf("this master's state differed from the other masters' %d times within %s, last at entry %d (event %d); it stays out: "+
		"this machine or this binary is at fault. Run gridctl's bisect on its directory, then replace the master", recent, reinstallsWithin, r.AtIndex, r.AtSeq)
}

// addresses is where a master may listen, each once: what this one last knew, then what it is started with.
func (r reinstallRecord) addresses(id event.MasterID, listed Peers) []string {
	var all []string
	for _, m := range r.Known {
		if m.ID == id && !slices.Contains(all, m.Raft) {
			all = append(all, m.Raft)
		}
	}
	if p, is := listed.Find(id); is && !slices.Contains(all, p.Raft) {
		all = append(all, p.Raft)
	}
	return all
}

// reinstall takes the state from a master that has the right one, if this directory says that its own is not. It comes before
// anything of the directory is used. A crash in between does it again.
func (m *Master) reinstall(ctx context.Context, dir *datadir.Dir, f Founding) error {
	marks := &markers{dir: dir, now: time.Now}
	r, err := marks.Read()
	if err != nil || !r.Pending {
		return err
	}
	if err := r.tooOften(time.Now()); err != nil {
		return err
	}
	var errs []error
	for _, from := range r.Agree {
		at := r.addresses(event.MasterID(from.Owner()), m.cfg.Peers)
		if len(at) == 0 {
			errs = append(errs, fmt.Errorf("nobody knows where %s listens: put it into --peers", from))
		}
		for _, address := range at {
			err := m.takeState(ctx, dir, f, from, address)
			if err == nil {
				return marks.Done()
			}
			errs = append(errs, err)
		}
	}
	return fmt.Errorf("this master's state differs from the other masters' at entry %d and none of %v gives theirs: %w", r.AtIndex, r.Agree, errors.Join(errs...))
}

// takeState takes one master's state; whoever else answers at the address refuses.
func (m *Master) takeState(ctx context.Context, dir *datadir.Dir, f Founding, from event.ReplicaID, address string) error {
	ctx, cancel := context.WithTimeout(ctx, reinstallLimit)
	defer cancel()
	return raftgroup.Reinstall(ctx, raftgroup.ReinstallConfig{GroupID: disk.GroupID, LocalID: f.Replica, Dir: dir.Path(disk.RaftDir),
		GridID: f.GridID, Incarnation: f.Incarnation, From: from, Address: address, Network: m.cfg.Network, TLS: m.cfg.ClientTLS, Log: m.cfg.Log})
}
