package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/master/feed"
	"github.com/sutra-grid/sutra-grid/master/gateway"
	"github.com/sutra-grid/sutra-grid/master/txn"
	"github.com/sutra-grid/sutra-grid/transport"
)

// takerContact is how recent the contact with a master must be to hand leadership to it.
const takerContact = time.Second

// core is a master that is part of a grid: everything behind its ports.
type core struct {
	cfg      Config
	founding Founding
	replica  *replica
	book     *book
	group    *raftgroup.Group
	leading  *leading
	council  *council
	presence *presence
	proposer *proposer
	reads    *reads
	agents   *agents
	watches  *watches
	txns     *txn.Coordinator
	gateway  *gateway.Gateway
	shipper  *feed.Shipper
	service  *service
	table    dispatch
	undo     closers
}

// surroundings is what a core stands in.
type surroundings struct {
	dir       *datadir.Dir
	founding  Founding
	formation *formation
	raft      net.Listener // connections with the raft preface
	pool      *transport.Pool
	stats     *stats
	fatal     func(error)
	aborted   func() bool // the end is a crash
}

// openCore assembles a master on the stores that formation made.
func openCore(cfg Config, in surroundings) (*core, error) {
	c := &core{cfg: cfg, founding: in.founding}
	if err := c.open(in); err != nil {
		return nil, errors.Join(err, c.undo.run())
	}
	return c, nil
}

func (c *core) open(in surroundings) error {
	if there, err := datadir.Exists(in.dir.Path(disk.OutboxDir)); err != nil || !there {
		return errors.Join(fmt.Errorf("the outbox %s is gone; it is never made again: restore the directory, or replace this master", in.dir.Path(disk.OutboxDir)), err)
	}
	outbox, err := openOutbox(in.dir, c.cfg.Log, in.fatal)
	if err != nil {
		return err
	}
	c.undo.add(func() error {
		if in.aborted() {
			return outbox.Abandon()
		}
		return outbox.Close()
	})
	ready := make(chan struct{})
	c.service = newService()
	c.service.ready, c.service.handOver, c.service.fatal, c.service.log = ready, c.handOver, in.fatal, c.cfg.Log
	c.undo.add(c.service.Close)
	c.service.mark = (&markers{dir: in.dir, now: time.Now, known: func() Peers { return c.book.Newest() }}).Mark
	c.replica = &replica{machine: fsm.NewMachineAt(c.cfg.seams.supports), outbox: outbox, fatal: in.fatal, log: c.cfg.Log,
		differ: c.service.Differ}
	self, _ := c.cfg.Peers.Find(c.cfg.ID)
	c.book = &book{gridID: c.founding.GridID, self: self, listed: c.cfg.Peers, view: c.replica.View, greet: greeter(in.pool), told: map[event.ReplicaID]told{}}

	lead := &leader{cfg: c.cfg, founding: c.founding, replica: c.replica, clock: machineClock(c.cfg.seams.wall), ready: ready, log: c.cfg.Log}
	if err := c.openGroup(in, lead); err != nil {
		return err
	}

	c.leading = &leading{self: c.cfg.ID, find: c.book.Find, group: c.group, limit: c.cfg.Limits.Request}
	slow, quick := c.openPool(), c.openPool() // replies on a connection are in order: some must not wait behind others
	c.proposer = &proposer{leading: c.leading, group: c.group, pool: in.pool, slow: slow, beats: newBacklog(), stats: in.stats, service: c.service,
		admit: newAdmission(c.replica.View, in.stats)}
	c.council = &council{founding: c.founding, group: c.group, leading: c.leading, pool: in.pool, view: c.replica.View,
		candidates: &candidates{heard: map[event.MasterID]candidate{}}}
	rounds := newRounds(quick)
	c.undo.add(func() error { rounds.wait(); return nil })
	c.reads = &reads{leading: c.leading, group: c.group, view: c.replica.View, changed: c.replica.Changed, rounds: rounds}
	c.agents = &agents{gridID: c.founding.GridID, proposer: c.proposer, reads: c.reads}
	c.watches = &watches{view: c.replica.View, read: c.reads.State, mapped: &c.replica.mapped, fleet: &c.replica.fleet, outbox: outbox,
		group: c.group, incarnation: c.founding.Incarnation, keepAlive: c.cfg.Limits.KeepAlive, stats: in.stats.watches, log: c.cfg.Log}
	if err := c.openShards(in.stats.txns); err != nil {
		return err
	}
	c.shipper = feed.NewShipper(feed.ShipperConfig{Outbox: outbox, View: c.replica.View, Changed: c.replica.Changed,
		Propose: c.proposer.Here, Pool: in.pool, Log: c.cfg.Log})
	c.table = c.routes()
	c.staff(lead, in)
	close(ready)
	c.appear(in)
	return nil
}

func (c *core) openPool() *transport.Pool {
	pool := transport.NewPool(transport.PoolConfig{Network: c.cfg.Network, TLS: c.cfg.ClientTLS})
	c.undo.add(pool.Close)
	return pool
}

func openOutbox(dir *datadir.Dir, log *slog.Logger, fatal func(error)) (*feed.Outbox, error) {
	o := feed.DefaultOutboxOptions()
	o.Log, o.Fatal = log, fatal
	return feed.OpenOutbox(dir.Path(disk.OutboxDir), o)
}

// openGroup starts raft: from here on Apply and the leader's work may run.
func (c *core) openGroup(in surroundings, lead *leader) error {
	host := raftgroup.NewHost(in.raft, raftgroup.HostConfig{GridID: c.founding.GridID, Incarnation: c.founding.Incarnation, Log: c.cfg.Log})
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := host.Serve(context.Background()); err != nil {
			in.fatal(fmt.Errorf("take raft connections: %w", err))
		}
	}()
	c.undo.add(func() error { err := host.Close(); <-served; return err })
	group, err := raftgroup.Open(raftgroup.Config{
		GroupID: disk.GroupID, LocalID: c.founding.Replica, Dir: in.dir.Path(disk.RaftDir),
		Host: host, Network: c.cfg.Network, TLS: c.cfg.ClientTLS, Addresses: c.raftAddress,
		Timeouts: c.cfg.Raft.Timeouts, FSM: c.cfg.machine(c.replica), Lead: lead.Run, Level: c.level,
		SnapshotThreshold: c.cfg.Raft.SnapshotThreshold, TrailingLogs: c.cfg.Raft.TrailingLogs, SegmentBytes: c.cfg.Raft.SegmentBytes,
		LogStore: c.cfg.Raft.LogStore, Fatal: in.fatal, Log: c.cfg.Log, Now: lead.clock.Now,
	})
	if err != nil {
		return err
	}
	c.group = group
	c.undo.add(group.Close)
	return nil
}

// openShards makes the ways to the shards: the gateway's client, which routes by this master's own map, and the coordinator's two.
// They share no connection: replies keep the order of their requests, so what waits for a transaction's row until its deadline, a read
// or a transaction of one shard, must not stand in front of that transaction's own vote.
func (c *core) openShards(metrics *txn.Metrics) error {
	var votes, writes *client.Client
	c.txns = txn.New(txn.Config{Self: c.cfg.ID, Propose: c.proposer.Propose, View: c.replica.View, Confirmed: c.reads.State, Log: c.cfg.Log,
		Metrics: metrics, Point: c.cfg.Point,
		Admit: func(body event.Body, id event.RequestID) *event.Error {
			_, refused := feed.Admit(c.replica.View(), &event.Command{RequestID: id, Type: body.Type(), Body: body})
			return refused
		},
		Shards: shardsFunc(func(ctx context.Context, id event.ShardID, r client.ShardRequest) (*transport.RoutedOk, error) {
			if _, waits := r.Request.(*transport.Write); waits { // for rows, until its deadline
				return writes.Shard(ctx, id, r)
			}
			return votes.Shard(ctx, id, r)
		})})
	ways := client.Config{Network: c.cfg.Network, TLS: c.cfg.ClientTLS, Txn: c.txns.Run, Log: c.cfg.Log,
		Map: gateway.LocalMap(c.replica.View, c.replica.mapped.Changed)}
	votes, err := client.New(ways)
	if err != nil {
		return errors.Join(err, c.txns.Close())
	}
	c.undo.add(votes.Close)
	if writes, err = client.New(ways); err != nil {
		return errors.Join(err, c.txns.Close())
	}
	c.undo.add(writes.Close)
	c.undo.add(c.txns.Close)
	shards, err := client.New(ways)
	if err != nil {
		return err
	}
	c.undo.add(shards.Close)
	c.gateway = gateway.New(gateway.Config{Client: shards})
	return nil
}

// staff gives the leader what it works with.
func (c *core) staff(lead *leader, in surroundings) {
	lead.proposer, lead.council = c.proposer, c.council
	lead.confirm = func(ctx context.Context) error { _, _, err := c.group.ReadIndex(ctx); return err }
	lead.contacts = c.contacts
	lead.handTo = c.group.TransferTo
	lead.sweep, lead.ship = c.txns.Sweep, c.shipper.Run
	lead.inquiry = &inquiry{self: c.founding.Replica, voters: c.voters, local: c.stateDigests, limit: c.cfg.Limits.Check, log: c.cfg.Log,
		ask: func(ctx context.Context, to event.ReplicaID, r *transport.StateDigests) (*transport.StateDigestsOk, error) {
			peer, known := c.book.Find(to)
			if !known {
				return nil, fmt.Errorf("nobody knows where master %s listens", to)
			}
			return transport.Call[transport.StateDigestsOk](ctx, in.pool, peer.Grid, r)
		}}
	lead.members = &members{self: c.cfg.ID, supports: c.cfg.seams.supports, book: c.book, config: c.committed, view: c.replica.View, propose: lead.record,
		log: c.cfg.Log, facts: map[event.ReplicaID]facts{}}
	c.council.forget = lead.members.Forget
}

func (c *core) raftAddress(id event.ReplicaID) (string, error) {
	peer, known := c.book.Find(id)
	if !known {
		return "", fmt.Errorf("it is not known where master %s listens", id)
	}
	return peer.Raft, nil
}

// level is what new entries record; before the first event it is what this binary supports.
func (c *core) level() uint32 {
	if level := c.replica.View().Level(); level > 0 {
		return level
	}
	return c.cfg.seams.supports
}

// voters are the replicas that vote.
func (c *core) voters() []event.ReplicaID {
	var ids []event.ReplicaID
	for _, p := range c.group.Peers() {
		if p.Suffrage == raftgroup.Voter {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// committed is the configuration behind which an event of this leader may stand.
func (c *core) committed() []raftgroup.PeerStatus {
	_, peers := c.group.Configuration()
	return peers
}

// contacts is what the leader knows of the other masters.
func (c *core) contacts() []contact {
	s := c.replica.View()
	var contacts []contact
	for _, p := range newest(c.group.Peers()) {
		if p.ID == c.founding.Replica {
			continue
		}
		id := event.MasterID(p.ID.Owner())
		m := s.Master(id)
		contacts = append(contacts, contact{id: id, last: p.LastContact, unreachable: m != nil && m.Unreachable})
	}
	return contacts
}

// handOver gives leadership to another master, if this one has it and another one can be reached. Without a taker the others
// elect one by themselves a little later, so a failure is no reason not to stop.
func (c *core) handOver() {
	if !c.group.IsLeader() || !c.hasTaker() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Limits.Drain)
	defer cancel()
	if err := c.group.TransferLeadership(ctx); err != nil {
		c.cfg.Log.Warn("leadership not handed over", "err", err)
	}
}

func (c *core) hasTaker() bool {
	for _, other := range c.contacts() {
		if time.Since(other.last) < takerContact {
			return true
		}
	}
	return false
}

// Close stops the core in the reverse order of its assembly.
func (c *core) Close() error { return c.undo.run() }

// shardsFunc is a txn.Shards from a function.
type shardsFunc func(ctx context.Context, id event.ShardID, r client.ShardRequest) (*transport.RoutedOk, error)

// Shard implements txn.Shards.
func (f shardsFunc) Shard(ctx context.Context, id event.ShardID, r client.ShardRequest) (*transport.RoutedOk, error) {
	return f(ctx, id, r)
}

// greeter sends greetings over a pool.
func greeter(pool *transport.Pool) greetFunc {
	return func(ctx context.Context, address string, hello *transport.MasterHello) (*transport.MasterHelloOk, error) {
		return transport.Call[transport.MasterHelloOk](ctx, pool, address, hello)
	}
}
