package master

import (
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestDecisionsShareEntries: decisions about transactions that come together, through any masters, are committed in far fewer entries.
func TestDecisionsShareEntries(t *testing.T) {
	const decisions = 64
	c := newCluster(t, nil)
	c.start(c.ids()...)
	leader, followers := c.leader()
	awaitFounded(c)
	group := c.up[leader].core.group
	before := group.Applied()
	var (
		wg      sync.WaitGroup
		at      = make(chan struct{})
		answers [decisions]fsm.Answer
		errs    [decisions]error
	)
	for i := range decisions {
		p := c.up[append(followers, leader)[i%3]].core.proposer
		command := event.NewCommand("test", event.TxnAborted{Attempt: 1, Final: true, Reason: "test"})
		body := command.Body.(event.TxnAborted)
		rand.Read(body.TxnID[:])
		command.Body, command.RequestID, command.Issued = body, body.TxnID, time.Now().UnixMicro()
		wg.Go(func() {
			<-at
			answers[i], errs[i] = p.Propose(t.Context(), *command)
		})
	}
	close(at)
	wg.Wait()
	for i := range decisions {
		if errs[i] != nil || answers[i].Err != nil {
			t.Fatalf("decision %d: %v, %v", i, answers[i].Err, errs[i])
		}
	}
	entries := group.Applied() - before
	t.Logf("%d decisions in %d entries", decisions, entries)
	if entries > decisions/2 {
		t.Errorf("%d decisions took %d entries", decisions, entries)
	}
}
