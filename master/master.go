// Package master is one master replica: a member of the raft group that keeps the grid's state, and the server that agents,
// nodes, clients and people ask.
//
//	raft port --> replica (fsm + outbox) <-- proposer <-- grid port, HTTP port;  reads, watches --> state;  leader loops
//
// Invariants: state changes only by a command in the log; what is answered as committed is durable on a majority; a read
// that says linearizable was confirmed by the leader after it began; leader work runs under the context of its term and
// proposes on this replica only; nothing is served from a directory that does not name this master. Apply calls nothing in
// here but the outbox. The package must not import storagenode, agent or cmd.
package master

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/disk"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Master is a running master replica.
type Master struct {
	cfg  Config
	core *core
	undo closers

	lines *transport.Severable // all ports and connections

	once sync.Once
	done chan struct{} // closed when it cannot go on
	err  error         // why; set before done is closed

	closing  sync.Once
	closeErr error
	aborted  atomic.Bool // Close is a crash
}

// Open starts a master and returns when it serves: its directory names it, its grid is formed, its ports answer. It need not
// lead, and there need not be a leader yet. While a new grid waits for the other masters, Open waits too, until ctx ends.
func Open(ctx context.Context, cfg Config) (*Master, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	m := &Master{cfg: cfg.withDefaults(), done: make(chan struct{})}
	m.lines = transport.NewSeverable(m.cfg.Network)
	m.cfg.Network = m.lines
	if err := m.open(ctx); err != nil {
		return nil, errors.Join(err, m.undo.run())
	}
	return m, nil
}

func (m *Master) open(ctx context.Context) error {
	dir, err := datadir.Lock(m.cfg.Dir)
	if err != nil {
		return err
	}
	m.undo.add(dir.Close)
	formation, err := newFormation(m.cfg, dir)
	if err != nil {
		return err
	}
	ports, err := listen(m.cfg)
	if err != nil {
		return err
	}
	stats := newStats()
	front := newFront(m.cfg, ports, formation.Hello, stats)
	front.start(m.fatal)
	m.undo.add(front.close)
	pool := transport.NewPool(transport.PoolConfig{Network: m.cfg.Network, TLS: m.cfg.ClientTLS})
	m.undo.add(pool.Close)

	formation.greet = greeter(pool)
	formation.build = m.buildStores(dir)
	founding, err := formation.Run(ctx)
	if err != nil {
		return err
	}
	if err := m.reinstall(ctx, dir, founding); err != nil {
		return err
	}
	m.core, err = openCore(m.cfg, surroundings{dir: dir, founding: founding, raft: ports.peer, pool: pool, stats: stats, fatal: m.fatal, formation: formation, aborted: m.aborted.Load})
	if err != nil {
		return err
	}
	m.undo.add(m.core.Close)
	front.serve(m.core)
	m.undo.add(front.drain)
	m.undo.add(m.handOver)
	if !founding.Admitted {
		m.cfg.Log.Info("waiting to be admitted", "grid", founding.GridID, "replica", string(founding.Replica), "do", "gridctl raft add "+string(m.cfg.ID))
		if err := m.core.admitted(ctx); err != nil {
			return err
		}
	}
	m.cfg.Log.Info("serving", "grid", founding.GridID, "replica", string(founding.Replica),
		"raft", m.cfg.ListenRaft, "http", m.cfg.ListenHTTP, "grid_address", m.cfg.ListenGrid)
	return nil
}

// buildStores makes what a master must have from then on: the raft stores with the first configuration, and the outbox. What
// a crash left half made is made again, which is safe because this replica has not voted yet.
func (m *Master) buildStores(dir *datadir.Dir) func(Founding) error {
	return func(f Founding) error {
		made, err := datadir.Exists(dir.Path(disk.RaftDir))
		if err != nil {
			return err
		}
		if !made {
			err := raftgroup.Create(dir.Path(disk.RaftDir), raftgroup.CreateConfig{GroupID: disk.GroupID, LocalID: f.Replica, Voters: f.Servers, Join: f.Join,
				LogStore: m.cfg.Raft.LogStore, SegmentBytes: m.cfg.Raft.SegmentBytes})
			if err != nil {
				return fmt.Errorf("make the raft stores: %w", err)
			}
		}
		outbox, err := openOutbox(dir, m.cfg.Log, m.fatal)
		if err != nil {
			return err
		}
		return outbox.Close()
	}
}

// handOver is the first step of a stop in order; a master that failed leads nothing any more.
func (m *Master) handOver() error {
	if m.Err() == nil && !m.aborted.Load() {
		m.core.handOver()
	}
	return nil
}

// GridAddr is the address of the grid port.
func (m *Master) GridAddr() string { return m.cfg.ListenGrid }

// Done is closed when this master cannot go on; Err says why, and the process must end.
func (m *Master) Done() <-chan struct{} { return m.done }

// Err is why Done is closed; nil while it is not.
func (m *Master) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

func (m *Master) fatal(err error) {
	m.once.Do(func() {
		m.err = err
		close(m.done)
	})
}

// Abandon closes every port and connection of a master that cannot go on, and waits for nothing: while one of its threads hangs
// on a disk the kernel keeps the process, ended or not, with all that it has open, and the other masters and the clients would
// hold on to it. Close must not be awaited then.
func (m *Master) Abandon() error { return m.lines.Sever() }

// Close hands leadership over, answers what is in work, and stops everything in the reverse order of Open. It returns the
// errors of all steps.
func (m *Master) Close() error {
	m.closing.Do(func() { m.closeErr = m.undo.run() })
	return m.closeErr
}
