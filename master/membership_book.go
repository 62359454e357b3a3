package master

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxTold bounds the addresses a book was told; masters are few.
const maxTold = 64

// book finds where the masters listen. A replica is known by its id; an address is only where it is looked for, and the
// raft handshake refuses whoever else answers there. In this order:
//
//	what the replica said itself since its record last changed     kept in memory, checked by asking it there
//	its record in the state                                        the same on every master
//	the configured list                                            for the beginning
//
// So a master that moved is found before any leader has recorded it, and a wrong word cuts nobody off: it is not taken
// over unless the replica itself answers there.
type book struct {
	gridID string
	self   Peer
	listed Peers
	view   func() *fsm.State
	greet  greetFunc

	mu   sync.Mutex
	told map[event.ReplicaID]told // guarded by mu
}

// greetFunc asks who listens at a grid address.
type greetFunc func(ctx context.Context, address string, hello *transport.MasterHello) (*transport.MasterHelloOk, error)

// told is a replica's own word.
type told struct {
	peer Peer
	was  fsm.Master // its master's record then; a later record is newer than the word
}

// Find is where a replica listens.
func (b *book) Find(id event.ReplicaID) (Peer, bool) {
	owner := event.MasterID(id.Owner())
	if owner == b.self.ID {
		return b.self, true
	}
	record := b.record(owner)
	b.mu.Lock()
	word, said := b.told[id]
	b.mu.Unlock()
	switch {
	case said && word.was == record:
		return word.peer, true
	case record.ReplicaID == id && record.Grid != "":
		return peerOf(record), true
	}
	return b.listed.Find(owner)
}

// record is a master's record, zero when there is none.
func (b *book) record(id event.MasterID) fsm.Master {
	if m := b.view().Master(id); m != nil {
		return *m
	}
	return fsm.Master{}
}

func peerOf(m fsm.Master) Peer { return Peer{ID: m.ID, Raft: m.Address, HTTP: m.HTTP, Grid: m.Grid} }

// Newest is where the other masters may be found, of each what is known best before what else is.
func (b *book) Newest() Peers {
	var best Peers
	for m := range b.view().Masters() {
		if p, found := b.Find(m.ReplicaID); found && m.ID != b.self.ID {
			best = append(best, p)
		}
	}
	return append(best, b.Others()...)
}

// Others is where the other masters may be found, by what is known of them; one master may have several entries.
func (b *book) Others() Peers {
	others := b.listed.Others(b.self.ID)
	add := func(p Peer) {
		for _, known := range others {
			if known == p {
				return
			}
		}
		if p.ID != b.self.ID {
			others = append(others, p)
		}
	}
	for m := range b.view().Masters() {
		add(peerOf(*m))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, word := range b.told {
		add(word.peer)
	}
	return others
}

// Hear takes a word of where a replica listens, if that replica answers there.
func (b *book) Hear(ctx context.Context, id event.ReplicaID, at Peer) error {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	record := b.record(event.MasterID(id.Owner()))
	if now, found := b.Find(id); found && now == at {
		return nil
	}
	hello, err := b.ask(ctx, at)
	if err != nil {
		return fmt.Errorf("%s is said to be at %s, but: %w", id, at.Grid, err)
	}
	if got := event.NewReplicaID(string(hello.MasterID), hello.StoreID); got != id {
		return fmt.Errorf("%s is said to be at %s, but %s answers there", id, at.Grid, got)
	}
	return b.note(id, told{peer: ownWord(hello, at), was: record})
}

// ask greets whoever listens there; only a master of this grid is an answer.
func (b *book) ask(ctx context.Context, at Peer) (*transport.MasterHelloOk, error) {
	hello, err := b.greet(ctx, at.Grid, &transport.MasterHello{MasterID: b.self.ID, Peers: b.listed.String()})
	if err != nil {
		return nil, err
	}
	if hello.GridID != b.gridID {
		return nil, fmt.Errorf("a master of grid %q answers, this is grid %s", hello.GridID, b.gridID)
	}
	return hello, nil
}

// ownWord is where a master says it listens; one that does not say is where it was found.
func ownWord(hello *transport.MasterHelloOk, found Peer) Peer {
	if hello.Raft == "" || hello.HTTP == "" || hello.Grid == "" {
		return found
	}
	return Peer{ID: hello.MasterID, Raft: hello.Raft, HTTP: hello.HTTP, Grid: hello.Grid}
}

func (b *book) note(id event.ReplicaID, word told) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.told[id]; !known && len(b.told) >= maxTold {
		return errors.New("too many masters have announced themselves here")
	}
	b.told[id] = word
	return nil
}

// Probe looks for masters at the addresses of the configured list where the state has others: after all have moved at once
// there is nobody left to tell it.
func (b *book) Probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range b.listed.Others(b.self.ID) {
		record := b.record(p.ID)
		if record.ReplicaID == "" || peerOf(record) == p {
			continue
		}
		wg.Go(func() { _ = b.Hear(ctx, record.ReplicaID, p) }) // nobody there: looked at again, and the record stays
	}
	wg.Wait()
}
