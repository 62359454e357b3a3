package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// PoolConfig describes a Pool. Zero fields take defaults.
type PoolConfig struct {
	Network Network     // nil: TCP
	TLS     *tls.Config // nil: plain
	// MaxPerPeer is how many connections calls to one address share; 4. Few connections that carry many requests cost
	// both sides far less than many that carry few; a second one only keeps a large message from delaying small ones.
	MaxPerPeer int
	// CrowdedAt is how many requests in flight on every connection of a peer make the pool dial another one; 64.
	CrowdedAt int
	// Idle is when an unused connection is closed; 1 minute, well below a server's own limit, so that a request does not
	// meet a connection that its server is just closing.
	Idle time.Duration
}

// Pool shares connections to many peers. It is safe for concurrent use.
type Pool struct {
	cfg    PoolConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	peers   map[string]*peer
	streams map[*Conn]struct{}
	closed  bool
}

// peer is the connections to one address. Guarded by Pool.mu.
type peer struct {
	conns   []*Conn
	dialing *dialing // nil: nobody dials
}

// dialing is an attempt to connect that several calls may wait for.
type dialing struct {
	done chan struct{}
	conn *Conn
	err  error
}

// NewPool makes a pool; Close must be called.
func NewPool(cfg PoolConfig) *Pool {
	if cfg.Network == nil {
		cfg.Network = TCP()
	}
	def(&cfg.MaxPerPeer, 4)
	def(&cfg.CrowdedAt, 64)
	def(&cfg.Idle, time.Minute)
	p := &Pool{cfg: cfg, peers: map[string]*peer{}, streams: map[*Conn]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		p.closeIdle()
	}()
	return p
}

// Close breaks all connections and waits for the pool's goroutines.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cancel()
	var all []*Conn
	for _, peer := range p.peers {
		all = append(all, peer.conns...)
	}
	for c := range p.streams {
		all = append(all, c)
	}
	p.peers = map[string]*peer{}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // it always succeeds
	}
	p.wg.Wait()
	return nil
}

// Call sends req to addr and waits for its reply; errors are those of Conn. When the connection it would use turns out to
// be broken before anything was sent, it is replaced once.
func (p *Pool) Call(ctx context.Context, addr string, req any) (any, error) {
	for attempt := 0; ; attempt++ {
		c, err := p.get(ctx, addr)
		if err != nil {
			return nil, err
		}
		reply, err := c.Call(ctx, req)
		if err != nil && !c.alive() {
			p.drop(addr, c)
			if attempt == 0 && ctx.Err() == nil && errors.Is(err, &event.Error{Kind: event.KindUnavailable}) {
				continue
			}
		}
		return reply, err
	}
}

// CallApart is Call over a connection that carries nothing, a new one if need be, so that the reply does not wait behind those of
// other calls; when there are as many as may be and none is free, over the one with the least in flight.
func (p *Pool) CallApart(ctx context.Context, addr string, req any) (any, error) {
	c, err := p.getApart(ctx, addr)
	if err != nil {
		return nil, err
	}
	reply, err := c.Call(ctx, req)
	if err != nil && !c.alive() {
		p.drop(addr, c)
	}
	return reply, err
}

// clock is the clock of the server at addr, which it tells when it is dialled.
func (p *Pool) clock(ctx context.Context, addr string) (int64, error) {
	c, err := p.get(ctx, addr)
	if err != nil {
		return 0, err
	}
	return c.clock(), nil
}

// Stream is Conn.Stream on a connection of its own.
func (p *Pool) Stream(ctx context.Context, addr string, req any, fn func(msg any) error) error {
	c, err := p.dial(ctx, addr)
	if err != nil {
		return err
	}
	if !p.keep(c) {
		_ = c.Close() // it always succeeds
		return errPoolClosed(addr)
	}
	defer p.forget(c)
	return c.Stream(ctx, req, fn)
}

func errPoolClosed(addr string) error {
	return &event.Error{Kind: event.KindUnavailable, Op: "call " + addr, Message: "not sent: the connection pool is closed"}
}

func (p *Pool) dial(ctx context.Context, addr string) (*Conn, error) {
	return DialConn(ctx, DialConfig{Network: p.cfg.Network, TLS: p.cfg.TLS, Addr: addr})
}

// get picks the connection with the least in flight, or dials one when there is none or all are crowded.
func (p *Pool) get(ctx context.Context, addr string) (*Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errPoolClosed(addr)
	}
	pr := p.peerLocked(addr)
	best := pr.leastBusy()
	if best != nil && (best.inFlight() < p.cfg.CrowdedAt || len(pr.conns) >= p.cfg.MaxPerPeer) {
		p.mu.Unlock()
		return best, nil
	}
	d := p.dialingLocked(pr, addr)
	p.mu.Unlock()
	if best != nil { // crowded, but there: the new one serves the next calls
		return best, nil
	}
	return d.wait(ctx, addr)
}

// getApart picks a connection without anything in flight, or dials one.
func (p *Pool) getApart(ctx context.Context, addr string) (*Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errPoolClosed(addr)
	}
	pr := p.peerLocked(addr)
	best := pr.leastBusy()
	if best != nil && (best.inFlight() == 0 || len(pr.conns) >= p.cfg.MaxPerPeer) {
		p.mu.Unlock()
		return best, nil
	}
	d := p.dialingLocked(pr, addr)
	p.mu.Unlock()
	return d.wait(ctx, addr)
}

func (p *Pool) peerLocked(addr string) *peer {
	pr := p.peers[addr]
	if pr == nil {
		pr = &peer{}
		p.peers[addr] = pr
	}
	return pr
}

func (p *Pool) dialingLocked(pr *peer, addr string) *dialing {
	if pr.dialing == nil {
		p.startDialLocked(pr, addr)
	}
	return pr.dialing
}

// wait waits for the attempt's end, or ctx's.
func (d *dialing) wait(ctx context.Context, addr string) (*Conn, error) {
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, &event.Error{Kind: event.KindUnavailable, Op: "connect to " + addr, Message: "not sent: " + ctx.Err().Error()}
	}
}

// leastBusy is the connection with the least in flight; broken ones are dropped, their goroutines have ended.
func (pr *peer) leastBusy() *Conn {
	var best *Conn
	pr.conns = slices.DeleteFunc(pr.conns, func(c *Conn) bool { return !c.alive() })
	for _, c := range pr.conns {
		if best == nil || c.inFlight() < best.inFlight() {
			best = c
		}
	}
	return best
}

// startDialLocked dials on a goroutine of the pool, not of a call: a call that gives up must not end it for the others.
func (p *Pool) startDialLocked(pr *peer, addr string) {
	d := &dialing{done: make(chan struct{})}
	pr.dialing = d
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		ctx, cancel := context.WithTimeout(p.ctx, handshakeTimeout)
		defer cancel()
		d.conn, d.err = p.dial(ctx, addr)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer close(d.done)
		pr.dialing = nil
		switch {
		case d.err != nil:
			p.forgetEmptyLocked(addr, pr)
		case p.closed:
			_ = d.conn.Close() // it always succeeds, and takes no lock of ours
			d.conn, d.err = nil, errPoolClosed(addr)
		default:
			pr.conns = append(pr.conns, d.conn)
		}
	}()
}

// drop removes a broken connection.
func (p *Pool) drop(addr string, c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[addr]
	if pr == nil {
		return
	}
	if i := slices.Index(pr.conns, c); i >= 0 {
		pr.conns = slices.Delete(pr.conns, i, i+1)
	}
	p.forgetEmptyLocked(addr, pr)
}

func (p *Pool) forgetEmptyLocked(addr string, pr *peer) {
	if len(pr.conns) == 0 && pr.dialing == nil && p.peers[addr] == pr {
		delete(p.peers, addr)
	}
}

// closeIdle closes connections nobody has used for long, and forgets broken ones.
func (p *Pool) closeIdle() {
	tick := time.NewTicker(p.cfg.Idle / 2)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			for _, c := range p.takeIdle(now) {
				_ = c.Close() // it always succeeds
			}
		}
	}
}

func (p *Pool) takeIdle(now time.Time) []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var idle []*Conn
	for addr, pr := range p.peers {
		pr.conns = slices.DeleteFunc(pr.conns, func(c *Conn) bool {
			unused := c.inFlight() == 0 && now.UnixNano()-c.lastUsed.Load() > int64(p.cfg.Idle)
			if unused || !c.alive() {
				idle = append(idle, c)
				return true
			}
			return false
		})
		p.forgetEmptyLocked(addr, pr)
	}
	return idle
}

// caller is a Pool, or what stands for one.
type caller interface {
	Call(ctx context.Context, addr string, req any) (any, error)
}

// Call is c.Call with the reply's type; another type of reply is an error of KindInternal.
func Call[T any](ctx context.Context, c caller, addr string, req any) (*T, error) {
	return As[T](c.Call(ctx, addr, req))
}

// As gives a reply its type: transport.As[HeartbeatOk](masters.Call(ctx, req)).
func As[T any](reply any, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	t, ok := reply.(*T)
	if !ok {
		return nil, &event.Error{Kind: event.KindInternal, Op: "read reply", Message: fmt.Sprintf("got a %s, want a %T", VariantName(reply), t)}
	}
	return t, nil
}
