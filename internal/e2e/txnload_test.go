package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	workers     = 16
	eraTxns     = 400             // transactions before concepts change: groups of registers stay small enough to be judged
	eraLists    = 6               // lists of an era
	teams       = 4               // of workers; each has registers of its own, so that few clients share one
	txnLimit    = 3 * time.Second // of one attempt
	txnPatience = 10 * time.Second
	deposit     = 100 // of each account
	accounts    = 8
)

// sender executes a transaction once, or as a client library does.
type sender func(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error)

// txnLoad is clients of a grid whose transactions are recorded.
type txnLoad struct {
	t       *testing.T
	record  *history.Recorder
	era     atomic.Int64
	sent    atomic.Int64 // of all
	ready   chan int64   // eras whose concepts are there
	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	element atomic.Int64

	committed, aborted, unknown, repeated atomic.Int64
}

// txnClient is one of them.
type txnClient struct {
	*txnLoad
	number int // in the history; a new one when an outcome stays unknown
	team   int
	rng    *mathrand.Rand
	send   []sender // tried in turn
	nth    int
}

// newTxnLoad is a load that is not running; the concepts of its first era are there.
func newTxnLoad(t *testing.T, record *history.Recorder, ctx context.Context) *txnLoad {
	l := &txnLoad{t: t, record: record, ready: make(chan int64, 1)}
	l.ctx, l.stop = context.WithCancel(ctx)
	return l
}

// start lets clients run until stop. The first one only prepares eras.
func (l *txnLoad) start(send [][]sender) {
	clients := make([]*txnClient, len(send))
	for i := range send {
		clients[i] = &txnClient{txnLoad: l, number: i, team: i % teams, rng: mathrand.New(mathrand.NewPCG(uint64(i), 1)), send: send[i], nth: i}
	}
	clients[0].open(accountOps())
	clients[0].open(eraOps(0))
	l.wg.Go(func() { clients[0].prepareEras() })
	for _, c := range clients[1:] {
		l.wg.Go(c.run)
	}
}

// end stops the clients and lets one read everything once more.
func (l *txnLoad) end(send []sender) {
	l.stop()
	l.wg.Wait()
	last := &txnClient{txnLoad: l, number: 1 << 20, send: send}
	for era := range l.era.Load() + 1 {
		var ops []transport.Op
		for k := range eraLists {
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: listID(era, k)})
		}
		last.open(ops)
	}
	last.open(readAccounts())
}

// open executes what must be done; a test without it proves nothing.
func (c *txnClient) open(ops []transport.Op) {
	for range 5 {
		if c.execute(context.Background(), ops) == nil {
			return
		}
	}
	c.t.Errorf("%v could not be done", ops[0])
}

// prepareEras keeps one era ahead of the clients.
func (c *txnClient) prepareEras() {
	for era := int64(1); c.ctx.Err() == nil; era++ {
		c.open(eraOps(era))
		select {
		case c.ready <- era:
		case <-c.ctx.Done():
		}
	}
}

func listID(era int64, k int) string           { return fmt.Sprintf("list-%d-%d", era, k) }
func registerID(era int64, team, k int) string { return fmt.Sprintf("register-%d-%d-%d", era, team, k) }
func accountID(k int) string                   { return fmt.Sprintf("account-%d", k) }

func eraOps(era int64) (ops []transport.Op) {
	for k := range eraLists {
		ops = append(ops, learn(listID(era, k), nil))
	}
	for team := range teams {
		for k := range 3 {
			ops = append(ops, learn(registerID(era, team, k), nil))
		}
	}
	return ops
}

func learn(id string, attributes map[string]string) transport.Op {
	op := transport.Op{Kind: transport.OpLearnConcept, ID: id, Strength: 1, Confidence: 1}
	if attributes != nil {
		op.Metadata = &transport.Metadata{Attributes: attributes}
	}
	return op
}

func accountOps() (ops []transport.Op) {
	for k := range accounts {
		ops = append(ops, learn(accountID(k), map[string]string{"balance": fmt.Sprint(deposit)}))
	}
	return ops
}

func readAccounts() (ops []transport.Op) {
	for k := range accounts {
		ops = append(ops, transport.Op{Kind: transport.OpRead, ID: accountID(k)})
	}
	return ops
}

func (c *txnClient) run() {
	for c.ctx.Err() == nil {
		if c.sent.Add(1)%eraTxns == 0 {
			select {
			case era := <-c.ready:
				c.era.Store(era)
			default: // its concepts are not there yet
			}
		}
		if err := c.execute(c.ctx, c.draw()); errors.Is(err, errUnknown) {
			c.number += workers // whoever does not know goes on as somebody else
		}
		time.Sleep(time.Duration(10+c.rng.IntN(50)) * time.Millisecond) // other tests run beside this one
	}
}

// draw is a client's next transaction.
func (c *txnClient) draw() []transport.Op {
	switch n := c.rng.IntN(100); {
	case n < 45:
		return c.lists()
	case n < 75:
		return c.registers()
	case n < 90:
		return c.transfer()
	}
	return readAccounts()
}

func (c *txnClient) lists() (ops []transport.Op) {
	era := c.era.Load()
	for range 1 + c.rng.IntN(4) {
		id := listID(era, c.rng.IntN(eraLists))
		if c.rng.IntN(2) == 0 {
			ops = append(ops, transport.Op{Kind: transport.OpReadNeighbors, ID: id})
			continue
		}
		e := fmt.Sprintf("element-%d", c.element.Add(1))
		ops = append(ops, learn(e, nil), transport.Op{Kind: transport.OpLearnAssociation, ID: id, Target: e, Confidence: 1})
	}
	return ops
}

func (c *txnClient) registers() (ops []transport.Op) {
	era := c.era.Load()
	for range 1 + c.rng.IntN(3) {
		op := transport.Op{Kind: transport.OpRead, ID: registerID(era, c.team, c.rng.IntN(3)), Key: "k"}
		switch c.rng.IntN(8) {
		case 0, 1:
			op.Kind, op.Value = transport.OpSetAttribute, fmt.Sprint(c.rng.IntN(4))
		case 2:
			op.Kind, op.Value = transport.OpAttributeEquals, fmt.Sprint(c.rng.IntN(4))
		case 3:
			op.Kind, op.Key, op.Number = transport.OpAdd, "n", int64(c.rng.IntN(9)-4)
		case 4:
			op.Kind, op.Key, op.Version = transport.OpVersion, "", uint64(1+c.rng.IntN(10))
		default:
			op.Key = ""
		}
		ops = append(ops, op)
	}
	return ops
}

func (c *txnClient) transfer() []transport.Op {
	k, amount := c.rng.Perm(accounts), int64(1+c.rng.IntN(30))
	from, to := accountID(k[0]), accountID(k[1])
	return []transport.Op{
		{Kind: transport.OpAttributeAtLeast, ID: from, Key: "balance", Number: amount},
		{Kind: transport.OpAdd, ID: from, Key: "balance", Number: -amount},
		{Kind: transport.OpAdd, ID: to, Key: "balance", Number: amount},
	}
}

// errUnknown: nobody could tell what became of a transaction.
var errUnknown = errors.New("unknown outcome")

// execute sends a transaction until its outcome is known, under one request id, and records it.
func (c *txnClient) execute(ctx context.Context, ops []transport.Op) error {
	txn := &transport.Txn{Issued: time.Now().UnixMicro(), TimeoutMillis: uint32(txnLimit.Milliseconds()), Ops: ops}
	rand.Read(txn.RequestID[:])
	call := c.record.InvokeTxn(c.number, txn)
	var attempts history.Attempts
	for begun := time.Now(); ; c.repeated.Add(1) {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), txnLimit+time.Second)
		c.nth++
		ok, err := c.send[c.nth%len(c.send)](one, txn)
		cancel()
		switch attempts.Add(err) {
		case history.OK:
			c.committed.Add(1)
			c.record.Committed(call, ok)
			return nil
		case history.Fail:
			c.aborted.Add(1)
			c.record.Fail(call, history.FailedOp(err), err.Error())
			return err
		}
		if time.Since(begun) > txnPatience {
			c.unknown.Add(1)
			c.record.Unknown(call, err.Error())
			return errUnknown
		}
		time.Sleep(time.Duration(20+mathrand.IntN(80)) * time.Millisecond)
	}
}

// throughMasters sends to each master in turn, once.
func throughMasters(pool *transport.Pool, addrs []string) (all []sender) {
	for _, addr := range addrs {
		all = append(all, func(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error) {
			return transport.As[transport.TxnOk](pool.Call(ctx, addr, t))
		})
	}
	return all
}

// throughLibrary sends as the library does.
func throughLibrary(c *client.Client) []sender {
	return []sender{func(ctx context.Context, t *transport.Txn) (*transport.TxnOk, error) {
		return transport.As[transport.TxnOk](c.Do(ctx, t))
	}}
}
