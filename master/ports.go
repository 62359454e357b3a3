package master

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/sutra-grid/sutra-grid/transport"
)

// ports are the three listeners of a master.
type ports struct {
	raft *transport.Mux
	grid *transport.Mux
	http net.Listener
	peer net.Listener // the raft traffic of the raft port
}

// listen opens all three ports, or none.
func listen(cfg Config) (*ports, error) {
	var opened closers
	open := func(what, address string) (net.Listener, error) {
		l, err := cfg.Network.Listen(address)
		if err != nil {
			return nil, errors.Join(listenError(what, address, err), opened.run())
		}
		opened.add(l.Close)
		return l, nil
	}
	raft, err := open("raft", cfg.ListenRaft)
	if err != nil {
		return nil, err
	}
	web, err := open("HTTP", cfg.ListenHTTP)
	if err != nil {
		return nil, err
	}
	grid, err := open("grid", cfg.ListenGrid)
	if err != nil {
		return nil, err
	}
	if cfg.ServerTLS != nil {
		web = tls.NewListener(web, cfg.ServerTLS)
	}
	p := &ports{raft: transport.NewMux(raft, cfg.ServerTLS, cfg.Log), grid: transport.NewMux(grid, cfg.ServerTLS, cfg.Log), http: web}
	p.peer = p.raft.Raft()
	return p, p.raft.Frames().Close() // the raft port speaks no frames
}

// close ends the listeners.
func (p *ports) close() error {
	err := p.http.Close()
	if errors.Is(err, net.ErrClosed) { // its server was first
		err = nil
	}
	return errors.Join(p.grid.Close(), err, p.raft.Close())
}

// listenError is one line that says what to do.
func listenError(what, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s (%s): address already in use; another process holds the port", address, what)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %s (%s): not an address of this machine; correct --peers or give --listen-…", address, what)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("listen on %s (%s): not permitted; choose a port above 1023", address, what)
	}
	return fmt.Errorf("listen on %s (%s): %w", address, what, err)
}
