package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Deadlines of HTTP connections; a reply is written within the request's own limit.
const (
	httpHeaderTimeout = 10 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpDrain         = 2 * time.Second
)

// front is a master's ports. It answers greetings and says "starting" from the first moment; everything else waits until
// there is a core to serve it, or its own deadline.
type front struct {
	cfg   Config
	hello func(*transport.MasterHello) (*transport.MasterHelloOk, error)
	core  atomic.Pointer[core]
	open  chan struct{} // closed when core is set
	shut  chan struct{} // closed by drain

	ports  *ports
	server *transport.Server
	web    *http.Server
	group  errgroup.Group
}

func newFront(cfg Config, p *ports, hello func(*transport.MasterHello) (*transport.MasterHelloOk, error), st *stats) *front {
	f := &front{cfg: cfg, hello: hello, ports: p, open: make(chan struct{}), shut: make(chan struct{})}
	f.server = transport.NewServer(transport.ServerConfig{Handler: f.handle, Hello: f.helloOk, Name: "grid", Log: cfg.Log,
		Limits: transport.Limits{Send: cfg.Limits.Stall}, Slow: cfg.Limits.Slow})
	st.serves(f.server)
	a := &api{core: f.await, status: f.status, limit: cfg.Limits.Request, metrics: st.handler(f.core.Load), stats: st}
	f.web = &http.Server{Handler: a.routes(), ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: cfg.Limits.Request + httpHeaderTimeout,
		WriteTimeout: 2*cfg.Limits.Request + httpHeaderTimeout, IdleTimeout: httpIdleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)}
	return f
}

// start serves the ports; a port that fails while it is served is fatal.
func (f *front) start(fatal func(error)) {
	background := context.Background()
	for _, serve := range []func() error{
		func() error { return f.ports.raft.Serve(background) },
		func() error { return f.ports.grid.Serve(background) },
		func() error { return f.server.Serve(background, f.ports.grid.Frames()) },
		func() error {
			if err := f.web.Serve(f.ports.http); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve HTTP on %s: %w", f.ports.http.Addr(), err)
			}
			return nil
		},
	} {
		f.group.Go(func() error {
			err := serve()
			if err != nil {
				fatal(err)
			}
			return err
		})
	}
}

// serve opens the front to everything.
func (f *front) serve(c *core) {
	f.core.Store(c)
	close(f.open)
}

// drain ends the servers: requests in work are cancelled and answered. It may be called twice.
func (f *front) drain() error {
	select {
	case <-f.shut:
		return nil
	default:
		close(f.shut)
	}
	ctx, cancel := context.WithTimeout(context.Background(), httpDrain)
	defer cancel()
	err := f.web.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = f.web.Close() // whoever is still at it gets no answer
	}
	return errors.Join(err, f.server.Close())
}

// close ends everything, ports included.
func (f *front) close() error {
	return errors.Join(f.drain(), f.ports.close(), f.group.Wait())
}

// await is the core, as soon as there is one.
func (f *front) await(ctx context.Context) (*core, error) {
	if c := f.core.Load(); c != nil {
		return c, c.service.Err()
	}
	message := "this master is starting: its grid is not formed yet"
	select {
	case <-f.open:
		c := f.core.Load()
		return c, c.service.Err()
	case <-ctx.Done():
	case <-f.shut:
		message = "this master is stopping"
	}
	return nil, &event.Error{Kind: event.KindUnavailable, Op: "serve", Message: message}
}

// handle is the handler of the grid port.
func (f *front) handle(ctx context.Context, s *transport.Session, req any) (any, error) {
	switch r := req.(type) {
	case *transport.MasterHello:
		return result(f.hello(r))
	case *transport.GetClusterStatus:
		return result(f.status(ctx, r.Reading))
	}
	c := f.core.Load()
	if c == nil {
		limited, cancel := context.WithTimeout(ctx, f.cfg.Limits.Request)
		defer cancel()
		var err error
		if c, err = f.await(limited); err != nil {
			return nil, err
		}
	}
	return c.Handle(ctx, s, req)
}

func (f *front) helloOk() transport.HelloOk {
	ok := transport.HelloOk{Features: []string{"batch"}, TimeMicros: time.Now().UnixMicro()}
	if c := f.core.Load(); c != nil {
		s := c.replica.View()
		ok.ShardEpoch, ok.GridID = s.Epoch(), c.founding.GridID
	}
	return ok
}
