// Package agent runs the storage nodes that the masters assign to one machine, and tells the masters what became of them.
//
//	masters --assignments--> session --> keeper: plan(wanted, actual) -> actions -> platform -> nodes
//	masters <--registration, heartbeats, spooled events-- session <-- journal (agent.json, spool/) <--notices--
//
// Invariants: every step is recorded before it has effects, so an agent that is killed at any instruction finds every process it
// started and starts none twice; every change that is reported is recorded together with its event, which is numbered without a
// gap and kept until the masters have it; nodes neither need the agent nor the masters to go on; the agent touches only what its
// own record names. It must not import the masters, the storage nodes or the client.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Agent is a running agent.
type Agent struct {
	cfg    *Config
	opened time.Time

	dir     *datadir.Dir
	mux     *transport.Mux
	server  *transport.Server
	pool    *transport.Pool
	keeper  *keeper
	session *session

	keeping context.CancelFunc // ends the keeper, first
	talking context.CancelFunc // ends everything else, when the keeper has ended
	kept    chan struct{}      // closed when the keeper has ended
	done    chan struct{}      // closed when something ended the agent, or Close did
	err     error              // why; set before done is closed
}

// Open takes the data directory, listens, adopts what an earlier run left running, and goes on in the background.
func Open(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: &cfg, opened: time.Now(), kept: make(chan struct{}), done: make(chan struct{})}
	dir, id, err := openDir(&cfg)
	if err != nil {
		return nil, err
	}
	a.dir = dir
	journal, err := openJournal(dir, id)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	listener, err := cfg.Network.Listen(cfg.Listen)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	a.mux = transport.NewMux(listener, cfg.TLS, cfg.Log)
	a.server = transport.NewServer(transport.ServerConfig{Handler: a.handler, Name: "agent", Log: cfg.Log})
	a.pool = transport.NewPool(transport.PoolConfig{Network: cfg.Network, TLS: cfg.TLS})
	a.keeper = newKeeper(&cfg, dir.Path(), journal)
	a.session = &session{cfg: &cfg, storeID: id.StoreID, endpoint: a.endpoint(listener), grid: journal.record.GridID,
		masters: transport.NewMasters(cfg.Masters, a.pool), keeper: a.keeper, spool: journal.spool, load: cfg.loadOf(dir.Path()),
		log: cfg.Log, registered: make(chan struct{})}
	a.run()
	return a, nil
}

// openDir takes the agent's directory, and makes it an agent's if it is empty.
func openDir(cfg *Config) (*datadir.Dir, datadir.Identity, error) {
	dir, err := datadir.Lock(cfg.Data)
	if err != nil {
		return nil, datadir.Identity{}, err
	}
	id, known := dir.Identity()
	if !known {
		id = datadir.Identity{Kind: datadir.KindAgent, ID: string(cfg.ID), StoreID: datadir.NewStoreID()}
		if err := dir.SetIdentity(id); err != nil {
			return nil, id, errors.Join(err, dir.Close())
		}
	}
	if id.Kind != datadir.KindAgent || id.ID != string(cfg.ID) {
		return nil, id, errors.Join(fmt.Errorf("data directory %s belongs to %s %s, not to agent %s", cfg.Data, id.Kind, id.ID, cfg.ID), dir.Close())
	}
	return dir, id, nil
}

// endpoint is where others reach the agent; the port is the one it got if it asked for any.
func (a *Agent) endpoint(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	return net.JoinHostPort(a.cfg.advertisedHost(), port)
}

// run starts the loops. The keeper has a context of its own: at the end nodes are stopped while the masters still hear about it.
func (a *Agent) run() {
	var keep, talk context.Context
	talk, a.talking = context.WithCancel(context.Background())
	keep, a.keeping = context.WithCancel(talk)
	loops, ctx := errgroup.WithContext(talk)
	context.AfterFunc(ctx, a.keeping) // the first loop that fails ends the keeper too
	loops.Go(func() error { defer close(a.kept); return a.keeper.run(keep) })
	loops.Go(func() error { return a.mux.Serve(ctx) })
	loops.Go(func() error { return a.server.Serve(ctx, a.mux.Frames()) })
	loops.Go(func() error { return a.session.attend(ctx) })
	loops.Go(func() error { return a.session.followAssignments(ctx) })
	loops.Go(func() error { return a.session.emit(ctx) })
	go func() {
		a.err = loops.Wait()
		close(a.done)
	}()
}

// Done is closed when the agent can no longer work, or has been closed; Err then says why.
func (a *Agent) Done() <-chan struct{} { return a.done }

// Err is why Done was closed; nil after Close.
func (a *Agent) Err() error {
	<-a.done
	return a.err
}

// Addr is where the agent listens.
func (a *Agent) Addr() string { return a.session.endpoint }

// Close ends the agent. Nodes go on, unless the configuration says that they end with it.
func (a *Agent) Close() error {
	a.keeping()
	<-a.kept
	if a.cfg.StopNodesOnExit {
		a.session.farewell()
	}
	a.talking()
	<-a.done
	return errors.Join(a.pool.Close(), a.server.Close(), a.mux.Close(), a.dir.Close())
}
