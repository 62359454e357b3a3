package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	freeBy  = 5 * time.Second         // no lock outlives this
	holds   = 2500 * time.Millisecond // how long a fault lasts: longer than a participant waits before it inquires
	stakes  = 1000                    // of each account of the matrix
	purse   = "balance"               // the attribute that holds it
	giveUp  = 8 * time.Second         // of the client, behind its own 5 s
	truthBy = 15 * time.Second        // the true outcome is told by then
)

// court is a grid with accounts on two shards, in which transactions are tried one by one.
type court struct {
	*world
	traps *traps
	lib   *sdk.Client
	parts map[role][]string // hosts of the present case

	here, beside, there string // accounts, two on shard-0 and one on shard-1
	absent              string // a concept of shard-1 that nobody has learnt
	balance             map[string]int64
	number              uint32 // of the present transaction, and the type of its association

	txn  *transport.Txn
	kind kind
	told string     // what the client was told first
	said chan error // gets the client's answer
}

func newCourt(t *testing.T, replicas int, broke func(event.AgentID, event.ShardID, raftgroup.FSM) raftgroup.FSM) *court {
	c := &court{traps: &traps{}, balance: map[string]int64{}}
	c.world = newWorld(t, scenario{seed: 71, masters: 3, estates: 3, replicas: replicas, point: c.traps.pass, shardMachine: broke})
	cfg := sdk.Config{Network: c.net.Host(clientHost(0)), Log: slog.New(c.tap.of("client"))}
	for _, p := range c.peers {
		cfg.Masters = append(cfg.Masters, p.Grid)
	}
	var err error
	if c.lib, err = sdk.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.revive(), c.part(), c.accounts()); err != nil {
		t.Error(err)
	}
	return c
}

func (c *court) close() {
	c.fault(c.lib.Close())
	c.world.close()
}

// part moves the second shard to another node when both are on one: shards of one replica go where there is a node first.
func (c *court) part() error {
	view := c.member(c.running()[0]).View()
	one, two := view.Shard("shard-0").Voters, view.Shard("shard-1").Voters
	if len(one) > 1 || one[0].NodeID != two[0].NodeID {
		return nil
	}
	d := &district{c.world, c.chronicle()}
	d.until("all at the newest level", func(s *fsm.State) bool { return s.Level() == fsm.SupportedLevel })
	to := stranger(view, "shard-1")
	d.assign("shard-1", to, event.RoleLearner, two[0].NodeID)
	d.settled("shard-1", string(to))
	return nil
}

// accounts opens them.
func (c *court) accounts() error {
	shards := c.member(c.running()[0]).View().ShardMap()
	find := func(what string, shard event.ShardID) string {
		for i := 0; ; i++ {
			id := fmt.Sprintf("%s-%d", what, i)
			if s, err := shards.Shard(id); err == nil && s.ID == shard {
				return id
			}
		}
	}
	c.here, c.beside, c.there, c.absent = find("here", "shard-0"), find("beside", "shard-0"), find("there", "shard-1"), find("absent", "shard-1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, id := range []string{c.here, c.beside, c.there} {
		c.balance[id] = stakes
		if err := c.lib.LearnConcept(ctx, &transport.LearnConcept{ConceptID: id, Strength: 1, Confidence: 1,
			Metadata: &transport.Metadata{Attributes: map[string]string{purse: fmt.Sprint(stakes)}}}); err != nil {
			return fmt.Errorf("open %s: %w", id, err)
		}
	}
	return nil
}

// send has a client send the next transaction to a master, and wait for the answer.
func (c *court) send(k kind, host string) {
	c.number++
	c.kind, c.said = k, make(chan error, 1)
	from, to := c.here, c.there
	if k == alone {
		to = c.beside
	}
	c.txn = &transport.Txn{RequestID: event.TxnID{byte(c.number), 0xC0}, Issued: time.Now().UnixMicro(), TimeoutMillis: 5000, Ops: []transport.Op{
		{Kind: transport.OpLearnAssociation, ID: from, Target: to, AssocType: 1000 + c.number, Confidence: 1},
		{Kind: transport.OpAttributeAtLeast, ID: from, Key: purse, Number: 1},
		{Kind: transport.OpAdd, ID: from, Key: purse, Number: -1},
		{Kind: transport.OpAdd, ID: to, Key: purse, Number: 1},
	}}
	if k == refused {
		c.txn.Ops = append(c.txn.Ops, transport.Op{Kind: transport.OpExists, ID: c.absent})
	}
	go func() { c.said <- c.ask(host, giveUp) }()
}

// ask sends the transaction to a master.
func (c *court) ask(host string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := c.pool.Call(ctx, host+":7002", c.txn)
	return err
}

// told is what an answer says of a transaction, for good.
func toldBy(err error) string {
	var e *event.Error
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, &e) && (e.Kind == event.KindAborted || e.Kind == event.KindPrecondition):
		return "aborted"
	}
	return "unknown"
}

// free reads the accounts again and again while a fault holds, which nobody can while a transaction holds them, and returns the longest
// that a reader had to wait. None may wait longer than a lock may live.
func (c *court) free(hold time.Duration) (longest time.Duration, err error) {
	begun := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range []string{c.here, c.there} {
		wg.Go(func() {
			for {
				waited, late := c.readable(id)
				mu.Lock()
				longest, err = max(longest, waited), cmp.Or(err, late)
				mu.Unlock()
				if late != nil || time.Since(begun) >= hold {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	return longest, err
}

// readable waits until an account can be read.
func (c *court) readable(id string) (waited time.Duration, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), freeBy)
	defer cancel()
	for {
		_, err := c.lib.Concept(ctx, id)
		if err == nil {
			return time.Since(begun), nil
		}
		if ctx.Err() != nil {
			return time.Since(begun), fmt.Errorf("%s cannot be read for %s: %w", id, freeBy, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// judge finds out what became of the transaction, in every way there is.
func (c *court) judge(v *verdicts) error {
	c.told = toldBy(<-c.said)
	end, err := c.outcome()
	if err != nil {
		return err
	}
	switch c.told {
	case "unknown":
		v.unknown++
	case "committed":
		v.committed++
	default:
		v.aborted++
	}
	if c.told != "unknown" && c.told != end {
		return fmt.Errorf("the client was told %s; sent again, %s", c.told, end)
	}
	if c.kind == refused && end == "committed" || c.kind == alone && end == "aborted" && c.told != "aborted" {
		return fmt.Errorf("it is %s", end)
	}
	if end == "committed" {
		c.balance[c.txn.Ops[0].ID]--
		c.balance[c.txn.Ops[0].Target]++
	}
	if err := errors.Join(c.decided(), c.recorded(end), c.stored(end)); err != nil {
		return err
	}
	return c.replicasEqual()
}

// outcome sends the transaction again until it is known what became of it.
func (c *court) outcome() (end string, err error) {
	begun := time.Now()
	for n := 0; time.Since(begun) < truthBy; n++ {
		err = c.ask(string(c.ids[n%len(c.ids)]), 6*time.Second)
		if end = toldBy(err); end != "unknown" {
			return end, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", fmt.Errorf("nobody can tell what became of transaction %d %s after all was well: %w", c.number, truthBy, err)
}

// recorded waits until all masters have the same record, and compares it with the outcome. A transaction of one shard has none.
func (c *court) recorded(end string) error {
	for _, id := range c.ids {
		err := c.await(id, func(s *fsm.State) bool {
			e := s.TxnEnd(c.txn.RequestID)
			if c.kind == alone {
				return !e.Committed && !e.Final
			}
			return e.Committed == (end == "committed") && e.Final == (end == "aborted")
		})
		if err != nil {
			return fmt.Errorf("%s does not have it as %s: %w", id, end, err)
		}
	}
	return nil
}

// await waits until a master's state is as wanted.
func (c *court) await(id event.MasterID, right func(*fsm.State) bool) error {
	late := time.NewTimer(freeBy)
	defer late.Stop()
	m := c.member(id)
	for {
		changed := m.Changed()
		if right(m.View()) {
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("within %s", freeBy)
		}
	}
}

// stored compares what the shards hold with the outcome: every account, and both halves of the association or none.
func (c *court) stored(end string) error {
	ctx, cancel := context.WithTimeout(context.Background(), freeBy)
	defer cancel()
	var read []transport.Op
	for _, id := range []string{c.here, c.beside, c.there} {
		read = append(read, transport.Op{Kind: transport.OpRead, ID: id})
	}
	ok, err := transport.As[transport.TxnOk](c.lib.Do(ctx, &transport.Txn{Ops: read}))
	if err != nil {
		return fmt.Errorf("read all accounts at rest: %w", err)
	}
	total := int64(0)
	for i, got := range ok.Results {
		id := read[i].ID
		holds, err := strconv.ParseInt(got.Attributes[purse], 10, 64)
		if err != nil || holds != c.balance[id] {
			return fmt.Errorf("%s holds %v, not %d, and transaction %d is %s", id, got.Attributes, c.balance[id], c.number, end)
		}
		total += holds
	}
	if total != 3*stakes {
		return fmt.Errorf("the accounts hold %d, not %d", total, 3*stakes)
	}
	var halves []string
	link := c.txn.Ops[0]
	for _, half := range []struct{ id, other, direction string }{{link.ID, link.Target, "out"}, {link.Target, link.ID, "in"}} {
		got, err := c.lib.Neighbors(ctx, &transport.Neighbors{ConceptID: half.id, Direction: half.direction, Limit: 1000})
		if err != nil {
			return fmt.Errorf("neighbours of %s at rest: %w", half.id, err)
		}
		for _, n := range got.Items {
			if n.ID == half.other && n.Type == link.AssocType {
				halves = append(halves, half.direction)
			}
		}
	}
	if want := map[bool]string{true: "out in", false: ""}[end == "committed"]; strings.Join(halves, " ") != want {
		return fmt.Errorf("transaction %d is %s, and its association has the halves %q", c.number, end, halves)
	}
	return nil
}
