package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/semanticwalk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// DefaultDeadline bounds a call whose context has no deadline: longer than a fail-over of masters or of a shard, shorter
// than a person's patience.
const DefaultDeadline = 10 * time.Second

// Config says where the grid is. Masters is needed unless both Map and Txn are given.
type Config struct {
	Masters []string          // grid addresses, host:port; at least one must answer
	Network transport.Network // default: TCP
	TLS     *tls.Config       // nil: plain connections
	Map     MapSource         // default: a watch at the masters, from the first call on
	Txn     TxnFunc           // default: sent to a master
	Log     *slog.Logger      // default: discards
	Now     func() time.Time  // default: time.Now; stamps request ids
}

// TxnFunc runs a transaction over several shards.
type TxnFunc func(ctx context.Context, txn *transport.Txn) (*transport.TxnOk, error)

func (c Config) validate() error {
	if len(c.Masters) == 0 && (c.Map == nil || c.Txn == nil) {
		return errors.New("client: no masters given; name at least one, host:port")
	}
	return nil
}

// Client is a connection to a grid; make one per program and share it.
type Client struct {
	pool    *transport.Pool
	masters *transport.Masters
	maps    MapSource
	watch   *mapWatch // nil when Config.Map is given
	txn     TxnFunc
	now     func() time.Time
	walks   semanticwalk.Slots

	latencies *latencies
	hedges    hedging
	random    func(n int) int // as rand.IntN
}

// New starts a client. It does not wait for the grid: the first call does.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Network == nil {
		cfg.Network = transport.TCP()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{pool: transport.NewPool(transport.PoolConfig{Network: cfg.Network, TLS: cfg.TLS}), maps: cfg.Map, txn: cfg.Txn, now: cfg.Now,
		walks: semanticwalk.NewSlots(), latencies: newLatencies(), random: mathrand.IntN}
	if c.now == nil {
		c.now = time.Now
	}
	if len(cfg.Masters) > 0 {
		c.masters = transport.NewMasters(cfg.Masters, c.pool)
	}
	if c.maps == nil {
		c.watch = newMapWatch(c.masters, cfg.Log)
		c.maps = c.watch
	}
	if c.txn == nil {
		c.txn = c.sendTxn
	}
	return c, nil
}

// Close ends the watch and all connections; calls that are under way fail.
func (c *Client) Close() error {
	if c.watch != nil {
		c.watch.close()
	}
	return c.pool.Close()
}

// Do answers any request of the Sutra storage protocol as one storage node with all the data would: requests about one
// concept go to its shard, those about all are asked of every shard and merged (each shard's part is linearizable, the
// whole is not one snapshot), an association over two shards, or a delete over several, is a transaction. The reply is a pointer to the message the
// protocol names. Errors are *event.Error.
func (c *Client) Do(ctx context.Context, req any) (any, error) {
	if err := transport.Validate(req, 0); err != nil {
		return nil, err
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	switch r := req.(type) {
	case *transport.LearnConcept:
		return c.one(ctx, r.ConceptID, r)
	case *transport.LearnAssociation:
		return c.learnAssociation(ctx, r)
	case *transport.DeleteConcept:
		return c.deleteConcept(ctx, r)
	case *transport.DeleteAssociation:
		return c.deleteAssociation(ctx, r)
	case *transport.Flush:
		return c.flush(ctx)
	case *transport.LearnConceptV2:
		return c.learnConcept(ctx, r)
	case *transport.LearnBatch:
		return c.learnBatch(ctx, r)
	case *transport.Batch:
		return c.batch(ctx, r)
	case *transport.Txn:
		return c.runTxn(ctx, r)
	case *transport.Query:
		return c.query(ctx, r)
	}
	return c.reading().answer(ctx, req)
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultDeadline)
}

// newRequest makes a write's identity, once for all of its attempts.
func (c *Client) newRequest() (event.RequestID, int64) {
	var id event.RequestID
	rand.Read(id[:]) // never fails (crypto/rand)
	return id, c.now().UnixMicro()
}
