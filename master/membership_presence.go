package master

import (
	"context"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// presenceEvery is how often a master looks whether the others know it. Nothing waits for it but a master that moved.
const presenceEvery = time.Second

// presence keeps a master known to the others: it announces itself to all it knows of until the state says the same. It
// needs to reach one of them; none needs to know its new address.
type presence struct {
	founding Founding
	book     *book
	view     func() *fsm.State
	group    leadership
	send     func(ctx context.Context, address string, a *transport.AnnounceMaster) (*transport.AnnounceMasterOk, error)
}

// Run announces this master until ctx ends.
func (p *presence) Run(ctx context.Context) {
	tick := time.NewTicker(presenceEvery)
	defer tick.Stop()
	for {
		p.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *presence) look(ctx context.Context) {
	if !p.recorded() {
		p.announce(ctx)
	}
	if _, _, led := p.group.Leader(); !led {
		p.book.Probe(ctx)
	}
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
		Raft: self.Raft, HTTP: self.HTTP, Grid: self.Grid, Level: fsm.SupportedLevel}
	var wg sync.WaitGroup
	for _, other := range p.book.Others() {
		wg.Go(func() { _, _ = p.send(ctx, other.Grid, word) }) // the state says whether it was heard
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
