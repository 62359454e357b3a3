package sim

import (
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// outcome is what a client knows of a command.
type outcome int

const (
	open   outcome = iota // it may have been done
	acked                 // the grid says it is done
	failed                // the grid says it surely was not done
)

// claim is one command of a client, named by a token that its event carries.
type claim struct {
	outcome outcome
	seq     uint64 // of an acknowledged one, if the answer says; 0: it does not
	value   uint64 // what the answer gave; 0: nothing
}

// place is one event of the feed, as far as it is compared.
type place struct {
	typ   event.Type
	chain event.Chain
	token string
	value uint64
	json  [32]byte // of SHA-256 over its form in event storage
	term  uint64   // of leader_elected
}

// ledger is what clients were told, and the one feed that all replicas must have. It keeps faults instead of reporting them, so
// that it can be tested.
type ledger struct {
	mu     sync.Mutex
	claims map[string]*claim   // guarded by mu
	order  []string            // guarded by mu; tokens as they were begun
	feed   []place             // guarded by mu; by seq-1
	places map[string][]uint64 // guarded by mu; token -> where it is in the feed
	high   uint64              // guarded by mu; the highest seq that anybody was told
	tried  [3]int              // guarded by mu; settled commands by outcome
}

func newLedger() *ledger { return &ledger{claims: map[string]*claim{}, places: map[string][]uint64{}} }

// begin says that a command is about to be sent for the first time.
func (l *ledger) begin(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims[token] = &claim{}
	l.order = append(l.order, token)
}

// settle says what became of it. An acknowledged command stays so.
func (l *ledger) settle(token string, c claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.claims[token] = c
	l.tried[c.outcome]++
	l.high = max(l.high, c.seq)
}

// told is the highest seq that anybody has been told: a read that begins now must be at or behind it.
func (l *ledger) told() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.high
}

// add takes the next event of a replica's feed at seq, and says how it differs from what the others have.
func (l *ledger) add(seq uint64, p place) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch have := uint64(len(l.feed)); {
	case seq <= have:
		if l.feed[seq-1] != p {
			return fmt.Errorf("event %d is %q with chain %x here, and %q with chain %x elsewhere", seq, p.token, p.chain[:4], l.feed[seq-1].token, l.feed[seq-1].chain[:4])
		}
	case seq == have+1:
		l.feed = append(l.feed, p)
		if p.token != "" {
			l.places[p.token] = append(l.places[p.token], seq)
		}
	default:
		return fmt.Errorf("event %d follows event %d", seq, have)
	}
	return nil
}

// at is an event of the feed.
func (l *ledger) at(seq uint64) place {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq == 0 || seq > uint64(len(l.feed)) {
		return place{}
	}
	return l.feed[seq-1]
}

func (l *ledger) length() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.feed))
}

// check compares the claims with the feed, which must hold everything that was acknowledged.
func (l *ledger) check() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var faults []error
	for _, token := range l.order {
		c, at := l.claims[token], l.places[token]
		switch {
		case len(at) > 1:
			faults = append(faults, fmt.Errorf("%s was applied %d times: events %d", token, len(at), at))
		case c.outcome == acked && len(at) == 0:
			faults = append(faults, fmt.Errorf("%s was acknowledged and is not in the feed: lost", token))
		case c.outcome == acked && c.seq != 0 && c.seq != at[0]:
			faults = append(faults, fmt.Errorf("%s was acknowledged as event %d and is event %d", token, c.seq, at[0]))
		case c.outcome == acked && c.value != 0 && c.value != l.feed[at[0]-1].value:
			faults = append(faults, fmt.Errorf("%s was answered with %d and is %d in event %d", token, c.value, l.feed[at[0]-1].value, at[0]))
		case c.outcome == failed && len(at) > 0:
			faults = append(faults, fmt.Errorf("%s was refused as surely not done and is event %d", token, at[0]))
		}
	}
	for token, at := range l.places {
		if l.claims[token] == nil {
			faults = append(faults, fmt.Errorf("event %d holds %s, which nobody sent", at[0], token))
		}
	}
	return faults
}

// counts are the settled commands: open, acknowledged, failed.
func (l *ledger) counts() (open, acked, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tried[0], l.tried[1], l.tried[2]
}
