package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/storagenode/embed"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Node is one running storage node.
type Node struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	dir      *datadir.Dir
	replicas *replicas
	maps     *mapCache
	mapped   signal // the map may have changed, or a replica is gone

	pool     *transport.Pool    // nil: alone
	masters  *transport.Masters // nil: alone
	mux      *transport.Mux
	raft     net.Listener    // of mux, until host takes it
	host     *raftgroup.Host // nil until a map has said the grid's incarnation
	embedder embed.Embedder
	readings *readings // nil: event storage has none
	server   *transport.Server

	background
	closeOnce func() error
	aborted   atomic.Bool // Close is a crash
	failure   failure
}

// background is what runs beside the requests.
type background struct {
	loops   context.Context // of the map watcher, the reconciler and the one who measures
	stop    context.CancelFunc
	serving sync.WaitGroup // mux, server, host
	looping sync.WaitGroup
}

// failure is the first reason why a node cannot go on.
type failure struct {
	once sync.Once
	done chan struct{}
	err  error // set before done is closed
}

// signal wakes one loop; a wake that is not yet taken is enough.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) nudge() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Open starts a node. It returns when the port listens and when the replicas that it knows of are open: alone its one, in a
// grid those that its directory names and whose map it has. In a grid a replica that cannot be opened is reported by
// HealthCheck and the others serve; alone it is an error.
func Open(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log.With("node", string(cfg.nodeID())), started: time.Now(),
		mapped: newSignal(), failure: failure{done: make(chan struct{})},
	}
	n.closeOnce = sync.OnceValue(n.close)
	n.loops, n.stop = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// open is the start, step by step; Close is its reverse.
func (n *Node) open() error {
	dir, made, err := openDir(&n.cfg)
	if err != nil {
		return err
	}
	n.dir, n.replicas = dir, newReplicas(made)
	n.replicas.checkpoints = newCheckpoints(n.log, n.cfg.CatchUpBytesPerSecond)
	listener, err := n.cfg.Network.Listen(n.cfg.Listen)
	if err != nil {
		return listenError(n.cfg.Listen, err)
	}
	n.mux = transport.NewMux(listener, n.cfg.TLS, n.log)
	n.raft = n.mux.Raft()
	if g := n.cfg.Grid; g != nil {
		n.pool = transport.NewPool(transport.PoolConfig{Network: n.cfg.Network, TLS: n.cfg.TLS})
		n.masters = transport.NewMasters(g.Masters, n.pool)
	}
	n.readings = n.newReadings()
	if n.maps, err = n.firstMap(listener.Addr().String()); err != nil {
		return err
	}
	if n.embedder, err = n.newEmbedder(); err != nil {
		return err
	}
	n.server = transport.NewServer(transport.ServerConfig{Handler: n.handle, Hello: n.hello, Name: "storage", Log: n.log, Slow: n.cfg.SlowRequest})
	n.serve("mux", n.mux.Serve)
	n.serve("server", func(ctx context.Context) error { return n.server.Serve(ctx, n.mux.Frames()) })
	if err := n.firstReplicas(); err != nil {
		return err
	}
	if n.readings != nil {
		n.loop(n.measure)
	}
	if n.masters != nil {
		n.loop(n.watchMap)
		n.loop(n.reconcileLoop)
		n.loop(n.orphanLoop)
	}
	n.log.Info("listening", "address", n.Addr(), "store", n.StoreID())
	return nil
}

// Close stops the node: leadership is handed over, then everything ends, in the reverse order of the start. It waits for all
// of it, and a second call returns what the first one did.
func (n *Node) Close() error {
	return n.closeOnce()
}

// Abort is Close as a crash would have it, for simulations: leadership is handed to nobody, and what the stores have not flushed is
// lost. The logs, the votes and the manifest are as they were: each is synced before anything depends on it. Cut this node off
// first, or its peers hear its end.
func (n *Node) Abort() error {
	n.aborted.Store(true)
	return n.Close()
}

func (n *Node) close() error {
	n.stop()
	n.looping.Wait()
	var errs []error
	if n.replicas != nil {
		errs = append(errs, n.replicas.close(n.ending()))
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.serving.Wait()
	if c, ok := n.embedder.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	n.readings.close()
	if n.pool != nil {
		errs = append(errs, n.pool.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.Close())
	}
	return errors.Join(errs...)
}

// ending is how replicas end.
func (n *Node) ending() func(*replica) error {
	if n.aborted.Load() {
		return (*replica).abort
	}
	return (*replica).close
}

// Addr is host:port of the one listener.
func (n *Node) Addr() string { return n.raft.Addr().String() }

// StoreID names the data directory; a directory that was made anew has another one.
func (n *Node) StoreID() string {
	id, _ := n.dir.Identity()
	return id.StoreID
}

// Failed is closed when the node cannot go on: a failed or hung disk, a damaged store. Err then says why, and the process
// must end: nothing of what it still answers can be trusted to be durable.
func (n *Node) Failed() <-chan struct{} { return n.failure.done }

// Err is why the node failed; nil while it has not.
func (n *Node) Err() error {
	select {
	case <-n.failure.done:
		return n.failure.err
	default:
		return nil
	}
}

// Wait blocks until the node fails, and returns why, or ctx ends, and returns nil.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case <-n.failure.done:
		return n.failure.err
	case <-ctx.Done():
		return nil
	}
}

// fail records the first reason to leave.
func (n *Node) fail(err error) {
	n.failure.once.Do(func() {
		n.failure.err = err
		n.log.Error("the node cannot go on", "error", err)
		close(n.failure.done)
	})
}

// serve runs what ends by its own Close; any other end is fatal.
func (n *Node) serve(what string, run func(context.Context) error) {
	n.serving.Go(func() {
		if err := run(context.Background()); err != nil {
			n.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// loop runs what ends with n.loops.
func (n *Node) loop(run func(context.Context) error) {
	n.looping.Go(func() {
		if err := run(n.loops); err != nil && n.loops.Err() == nil {
			n.fail(err)
		}
	})
}

// listenError says who is in the way.
func listenError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listen on %s: address already in use; another process holds the port", addr)
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("listen on %s: permission denied; choose a port above 1023", addr)
	}
	return fmt.Errorf("listen on %s: %w", addr, err)
}
