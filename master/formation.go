package master

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// How often the peers are greeted while a grid forms, and how long one greeting may take.
const (
	greetEvery   = 200 * time.Millisecond
	greetTimeout = time.Second
)

// formation forms a grid once (safety S15). Its progress is one record in the data directory, replaced atomically:
//
//	store id -> decision {grid id, incarnation, first voters} -> IDENTITY, stores -> done
//
// The first master of the sorted list decides, when all listed masters answer with the same list and none has state. The
// others adopt what a formed peer tells them, if it names their replica. A crash between two steps resumes at the step;
// nothing votes before done, so making the stores again until then is harmless, and afterwards they are never made again.
type formation struct {
	self  Peer
	peers Peers
	boot  bool
	join  bool
	dir   *datadir.Dir
	greet greetFunc
	build func(Founding) error // makes the stores; may be called again after a crash
	fault func(fault.Label) error
	log   *slog.Logger

	supports uint32 // the level that Hello names

	mu     sync.Mutex
	record formingRecord // guarded by mu; what formation.json holds
}

// Founding is what a grid begins with.
type Founding struct {
	Replica     event.ReplicaID // this master's
	GridID      string
	Incarnation event.Incarnation
	Servers     []event.ReplicaID // the first voters, ordered; empty for a master that joined
	Join        bool              // this master joined a grid that existed
	Admitted    bool              // it has been a member: it formed the grid, or was seen on record
}

func newFormation(cfg Config, dir *datadir.Dir) (*formation, error) {
	self, _ := cfg.Peers.Find(cfg.ID)
	f := &formation{self: self, peers: cfg.Peers, boot: cfg.Bootstrap, join: cfg.Join, dir: dir, fault: cfg.seams.fault, supports: cfg.seams.supports, log: cfg.Log}
	record, err := readForming(dir)
	if err != nil {
		return nil, err
	}
	identity, known := dir.Identity()
	switch {
	case record.StoreID == "" && known:
		return nil, fmt.Errorf("data directory %s belongs to %s but its %s is gone; it is never made up again: restore the directory, or start this master anew with an empty one",
			dir.Path(), identity.ID, formingFile)
	case record.Done && !known:
		return nil, fmt.Errorf("data directory %s belongs to %s.%s but its IDENTITY is gone; it is never made up again: restore the directory, or start this master anew with an empty one",
			dir.Path(), record.MasterID, record.StoreID)
	case record.StoreID != "" && record.MasterID != cfg.ID:
		return nil, fmt.Errorf("data directory %s belongs to %s, this master is %s", dir.Path(), record.MasterID, cfg.ID)
	case known && (identity.ID != string(cfg.ID) || identity.StoreID != record.StoreID || identity.GridID != record.GridID):
		return nil, fmt.Errorf("data directory %s: IDENTITY names %s.%s of grid %s, %s names %s.%s of grid %s", dir.Path(),
			identity.ID, identity.StoreID, identity.GridID, formingFile, record.MasterID, record.StoreID, record.GridID)
	}
	if record.Removed {
		return nil, fmt.Errorf("data directory %s: %w", dir.Path(), removedError(record.replica()))
	}
	f.record = record
	return f, nil
}

// Hello answers a peer's greeting; before the first step is taken there is nothing to say yet.
func (f *formation) Hello(*transport.MasterHello) (*transport.MasterHelloOk, error) {
	r := f.current()
	if r.StoreID == "" {
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "greet " + string(f.self.ID), Message: "starting, ask again"}
	}
	ok := &transport.MasterHelloOk{MasterID: f.self.ID, StoreID: r.StoreID, Peers: f.peers.String(), Formed: r.Done, Level: f.supports,
		Raft: f.self.Raft, HTTP: f.self.HTTP, Grid: f.self.Grid}
	if r.Done {
		ok.GridID, ok.Incarnation, ok.Servers = r.GridID, r.Incarnation, r.Servers
	}
	return ok, nil
}

// Run takes the steps that are left and returns what the grid began with.
func (f *formation) Run(ctx context.Context) (Founding, error) {
	for _, step := range []struct {
		label fault.Label
		do    func(context.Context) error
	}{
		{fault.FormationStore, f.makeStoreID},
		{fault.FormationDecide, f.decide},
		{fault.FormationIdentity, f.writeIdentity},
		{fault.FormationStores, f.makeStores},
		{fault.FormationDone, f.finish},
	} {
		if err := step.do(ctx); err != nil {
			return Founding{}, err
		}
		if err := f.fault(step.label); err != nil {
			return Founding{}, err
		}
	}
	return f.current().founding(), nil
}

func (f *formation) makeStoreID(context.Context) error {
	if f.current().StoreID != "" {
		return nil
	}
	empty, err := datadir.Empty(f.dir.Path())
	if err != nil {
		return fmt.Errorf("look into data directory %s: %w", f.dir.Path(), err)
	}
	if !empty {
		return fmt.Errorf("data directory %s is not empty and belongs to no master; give --data an empty one", f.dir.Path())
	}
	if !f.boot && !f.join {
		return fmt.Errorf("data directory %s is empty: start with --bootstrap to form a new grid, with --join to become part of one, or give --data this master's directory", f.dir.Path())
	}
	return f.save(formingRecord{MasterID: f.self.ID, StoreID: datadir.NewStoreID(), Join: f.join})
}

// decide ends with the founding decision in the record: made here, or adopted from a peer that has formed.
func (f *formation) decide(ctx context.Context) error {
	if f.current().GridID != "" {
		return nil
	}
	tick := time.NewTicker(greetEvery)
	defer tick.Stop()
	last := ""
	for {
		replies, missing := f.greetAll(ctx)
		decision, waiting, err := f.judge(replies, missing)
		if err != nil {
			return err
		}
		if decision.GridID != "" {
			return f.save(decision)
		}
		if waiting != last {
			f.log.Info("forming a grid", "waiting", waiting)
			last = waiting
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("form a grid: %w; still %s", context.Cause(ctx), waiting)
		case <-tick.C:
		}
	}
}

// greetAll asks all other masters at once; missing says why each of the rest gave no answer.
func (f *formation) greetAll(ctx context.Context) (replies map[Peer]*transport.MasterHelloOk, missing map[Peer]error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	hello := &transport.MasterHello{MasterID: f.self.ID, StoreID: f.current().StoreID, Peers: f.peers.String()}
	replies, missing = map[Peer]*transport.MasterHelloOk{}, map[Peer]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, peer := range f.peers.Others(f.self.ID) {
		wg.Go(func() {
			reply, err := f.greet(ctx, peer.Grid, hello)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing[peer] = err
				return
			}
			replies[peer] = reply
		})
	}
	wg.Wait()
	return replies, missing
}

// judge draws the conclusion of one round of greetings: a decision, or what is waited for, or why this cannot become a grid.
func (f *formation) judge(replies map[Peer]*transport.MasterHelloOk, missing map[Peer]error) (decision formingRecord, waiting string, err error) {
	if f.current().Join {
		return f.judgeJoin(replies, missing)
	}
	for _, peer := range f.peers.Others(f.self.ID) {
		reply, answered := replies[peer]
		if !answered {
			continue
		}
		if err := f.check(peer, reply); err != nil {
			return decision, "", err
		}
		if reply.Formed {
			return f.adopt(peer, reply)
		}
	}
	for _, peer := range f.peers.Others(f.self.ID) {
		if err := missing[peer]; err != nil {
			return decision, fmt.Sprintf("for %s at %s: %v", peer.ID, peer.Grid, err), nil
		}
	}
	if first := f.peers[0].ID; first != f.self.ID {
		return decision, fmt.Sprintf("for %s to form it", first), nil
	}
	return f.found(replies), "", nil
}

// judgeJoin takes the grid of whichever listed master answers first in the list; all that answer must be of that grid.
func (f *formation) judgeJoin(replies map[Peer]*transport.MasterHelloOk, missing map[Peer]error) (decision formingRecord, waiting string, err error) {
	waiting = "for a member of the grid to answer"
	for _, peer := range f.peers.Others(f.self.ID) {
		reply, answered := replies[peer]
		switch {
		case !answered:
			waiting = fmt.Sprintf("for %s at %s: %v", peer.ID, peer.Grid, missing[peer])
		case !reply.Formed:
			waiting = fmt.Sprintf("for %s, whose grid is not formed", peer.ID)
		case decision.GridID == "":
			decision = f.current()
			decision.GridID, decision.Incarnation = reply.GridID, reply.Incarnation
		case decision.GridID != reply.GridID:
			return decision, "", fmt.Errorf("the listed masters are of two grids: %s of %s, others of %s; list members of one", peer.ID, reply.GridID, decision.GridID)
		}
	}
	return decision, waiting, nil
}

func (f *formation) check(peer Peer, reply *transport.MasterHelloOk) error {
	if reply.MasterID != peer.ID {
		return fmt.Errorf("the list of peers says %s is at %s, but %s answers there; give all masters the same right list", peer.ID, peer.Grid, reply.MasterID)
	}
	if ours := f.peers.String(); reply.Peers != ours {
		return fmt.Errorf("the lists of peers differ: %s has %s, %s has %s; give all masters the same list", f.self.ID, ours, peer.ID, reply.Peers)
	}
	return nil
}

func (f *formation) adopt(peer Peer, reply *transport.MasterHelloOk) (formingRecord, string, error) {
	r := f.current()
	if !slices.Contains(reply.Servers, r.replica()) {
		return formingRecord{}, "", fmt.Errorf("%s belongs to grid %s, whose masters %v do not include %s; to join it, or to replace a master whose disk was lost, start with --join", peer.ID, reply.GridID, reply.Servers, r.replica())
	}
	r.GridID, r.Incarnation, r.Servers = reply.GridID, reply.Incarnation, reply.Servers
	return r, "", nil
}

func (f *formation) found(replies map[Peer]*transport.MasterHelloOk) formingRecord {
	r := f.current()
	r.GridID = newGridID()
	r.Incarnation.N = 1
	rand.Read(r.Incarnation.Random[:])
	r.Servers = []event.ReplicaID{r.replica()}
	for _, reply := range replies {
		r.Servers = append(r.Servers, event.NewReplicaID(string(reply.MasterID), reply.StoreID))
	}
	slices.Sort(r.Servers)
	return r
}

func (f *formation) writeIdentity(context.Context) error {
	if _, known := f.dir.Identity(); known {
		return nil
	}
	r := f.current()
	return f.dir.SetIdentity(datadir.Identity{GridID: r.GridID, Incarnation: r.Incarnation, Kind: datadir.KindMaster,
		ID: string(r.MasterID), StoreID: r.StoreID})
}

func (f *formation) makeStores(context.Context) error {
	r := f.current()
	if r.Done {
		return nil
	}
	return f.build(r.founding())
}

func (f *formation) finish(context.Context) error {
	r := f.current()
	if r.Done {
		return nil
	}
	r.Done = true
	if err := f.save(r); err != nil {
		return err
	}
	if r.Join {
		f.log.Info("ready to join", "grid", r.GridID, "replica", string(r.replica()))
	} else {
		f.log.Info("grid formed", "grid", r.GridID, "masters", r.Servers)
	}
	return nil
}

// Admitted remembers that this master has been a member: from now on it can be removed.
func (f *formation) Admitted() error {
	r := f.current()
	r.Admitted = true
	return f.save(r)
}

// Removed remembers that this replica was removed; its directory is not used again.
func (f *formation) Removed() error {
	r := f.current()
	r.Removed = true
	return f.save(r)
}

func (f *formation) current() formingRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record
}

func (f *formation) save(r formingRecord) error {
	if err := writeForming(f.dir, r); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record = r
	return nil
}

// newGridID is a random UUID (version 4).
func newGridID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
