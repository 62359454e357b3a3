package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// presenceEvery is how often a master looks whether the others know it. Nothing waits for it but a master that moved.
const presenceEvery = time.Second

// presence keeps a master and the others known to each other. It announces itself to all it knows of until the state says
// the same: it needs to reach one of them, and none needs to know its new address. And when it has lost touch it asks
// whether it was removed, for nobody can tell it otherwise.
type presence struct {
	founding  Founding
	formation *formation
	book      *book
	view      func() *fsm.State
	group     *raftgroup.Group
	pool      *transport.Pool
	joined    chan struct{}   // closed when it is on record as a member
	fatal     func(err error) // told when it was removed
	log       *slog.Logger

	supports uint32 // the level it announces
}

// appear starts to keep this master known to the others.
func (c *core) appear(in surroundings) {
	c.presence = &presence{supports: c.cfg.seams.supports, founding: c.founding, formation: in.formation, book: c.book, view: c.replica.View, group: c.group, pool: in.pool,
		joined: make(chan struct{}), fatal: in.fatal, log: c.cfg.Log}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.presence.run(ctx)
	}()
	c.undo.add(func() error { cancel(); <-done; return nil })
}

// admitted returns when this master is on record as a member.
func (c *core) admitted(ctx context.Context) error {
	select {
	case <-c.presence.joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("join grid %s: %w; nobody has said gridctl raft add %s yet", c.founding.GridID, context.Cause(ctx), c.cfg.ID)
	}
}

func (p *presence) run(ctx context.Context) {
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	member := p.founding.Admitted
	for {
		if err := p.look(ctx, &member); err != nil && ctx.Err() == nil {
			p.fatal(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look does what is due now. An error says that this master cannot go on.
func (p *presence) look(ctx context.Context, member *bool) error {
	recorded := p.recorded()
	if recorded && !*member {
		if err := p.formation.Admitted(); err != nil {
			return err
		}
		*member = true
		close(p.joined)
	}
	_, _, led := p.group.Leader()
	if *member && (!led || !contains(p.group.Peers(), p.founding.Replica)) && p.removed(ctx) {
		return errors.Join(removedError(p.founding.Replica), p.formation.Removed())
	}
	if m := p.view().Master(p.book.self.ID); !recorded || m == nil || m.Level != p.supports {
		p.announce(ctx) // a quick restart as another version nobody else notices
	}
	if !led {
		p.book.Probe(ctx)
	}
	return nil
}

// removed asks the others. Only a leader that has confirmed itself since then answers, from its committed configuration, and
// a removed replica never comes back; so one answer is enough. No answer says nothing.
func (p *presence) removed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	question := &transport.IsMember{GridID: p.founding.GridID, Incarnation: p.founding.Incarnation, ReplicaID: p.founding.Replica}
	for _, other := range p.book.Others() {
		answer, err := transport.Call[transport.IsMemberOk](ctx, p.pool, other.Grid, question)
		if err == nil {
			return !answer.Member
		}
		p.log.Debug("not known whether this master is still a member", "asked", other.ID, "err", err)
	}
	return false
}

// ErrRemoved is why a master ends that was removed from the grid.
var ErrRemoved = errors.New("removed from the grid")

func removedError(id event.ReplicaID) error {
	return fmt.Errorf("%w: %s is no member any more and never votes again; to come back, start with --join and an empty --data", ErrRemoved, id)
}

// recorded tells whether the state has this replica where it is.
func (p *presence) recorded() bool {
	m := p.view().Master(p.book.self.ID)
	return m != nil && m.ReplicaID == p.founding.Replica && peerOf(*m) == p.book.self
}

// announce tells every other master at once; who does not answer is told again at the next look.
func (p *presence) announce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*greetTimeout) // whoever is told asks back
	defer cancel()
	self := p.book.self
	word := &transport.AnnounceMaster{MasterID: self.ID, StoreID: p.founding.Replica.StoreID(), GridID: p.founding.GridID,
		Raft: self.Raft, HTTP: self.HTTP, Grid: self.Grid, Level: p.supports}
	var wg sync.WaitGroup
	for _, other := range p.book.Others() {
		wg.Go(func() { _, _ = transport.Call[transport.AnnounceMasterOk](ctx, p.pool, other.Grid, word) }) // the state says whether it was heard
	}
	wg.Wait()
}

// announced takes another master's word and passes it on to the leader, which records it.
func (c *core) announced(ctx context.Context, r *transport.AnnounceMaster) (*transport.AnnounceMasterOk, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*greetTimeout)
	defer cancel()
	const op = "announce master"
	id := event.NewReplicaID(string(r.MasterID), r.StoreID)
	switch {
	case r.GridID != c.founding.GridID:
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: "this is grid " + c.founding.GridID + ", not " + r.GridID}
	case id == c.founding.Replica: // it leads, and another master passed its word on
		return &transport.AnnounceMasterOk{Member: contains(c.group.Peers(), id)}, nil
	case r.MasterID == c.cfg.ID:
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: "that is my own id; two masters are started with it"}
	}
	if err := c.book.Hear(ctx, id, Peer{ID: r.MasterID, Raft: r.Raft, HTTP: r.HTTP, Grid: r.Grid}); err != nil {
		return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: err.Error()}
	}
	next := *r
	next.Hops++
	return atLeader(ctx, c.leading, c.proposer.pool, leaderTask[transport.AnnounceMasterOk]{what: op, safe: true, hops: r.Hops, next: &next,
		local: func(context.Context) (*transport.AnnounceMasterOk, error) { return c.council.Heard(id, r.Level), nil }})
}
