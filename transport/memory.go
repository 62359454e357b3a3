package transport

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// memoryBacklog is how many connections may wait for Accept, as a listen backlog.
const memoryBacklog = 128

// Memory is a network inside the process, for tests of whole clusters, in virtual time as well. Addresses are any
// "host:port"; a host exists by being listened on, or by dialling. Links between hosts can be made slow, cut and healed, in
// each direction by itself; a host can go down. Faults are a function of the seed and of the order of what is sent.
//
// Memory itself dials as the host "dialer"; Host gives a machine its own end.
type Memory struct {
	seed uint64
	seen func(Passage) // nil: nobody watches

	mu        sync.Mutex
	listeners map[string]*memoryListener // guarded by mu
	nextPort  int                        // guarded by mu; for port 0 and for the dialing side
	links     map[[2]string]*link        // guarded by mu; by from and to
	down      map[string]bool            // guarded by mu; hosts
}

// NewMemory makes an empty network of perfect links.
func NewMemory() *Memory { return NewSeededMemory(0) }

// NewSeededMemory is NewMemory with a seed for the jitter of its links.
func NewSeededMemory(seed uint64) *Memory {
	return &Memory{seed: seed, listeners: map[string]*memoryListener{}, nextPort: 49152, links: map[[2]string]*link{}, down: map[string]bool{}}
}

// memoryDialer is the host that Memory itself dials as.
const memoryDialer = "dialer"

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

// Listen implements Network.
func (m *Memory) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: memoryAddr(addr), Err: err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if port == "0" {
		addr = net.JoinHostPort(host, strconv.Itoa(m.freePortLocked(host)))
	}
	if _, ok := m.listeners[addr]; ok {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: memoryAddr(addr), Err: syscall.EADDRINUSE}
	}
	l := &memoryListener{network: m, addr: memoryAddr(addr), backlog: make(chan *memoryConn, memoryBacklog), closed: make(chan struct{})}
	m.listeners[addr] = l
	return l, nil
}

func (m *Memory) freePortLocked(host string) int {
	for {
		m.nextPort++
		if _, taken := m.listeners[net.JoinHostPort(host, strconv.Itoa(m.nextPort))]; !taken {
			return m.nextPort
		}
	}
}

// Dial implements Network.
func (m *Memory) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := m.dial(ctx, memoryDialer, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr(addr), Err: err}
	}
	return conn, nil
}

func (m *Memory) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	up, down := m.link(from, to), m.link(to, from)
	for _, l := range []*link{up, down} { // there, and the answer back
		if err := l.pass(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	l, ok := m.listeners[addr]
	m.nextPort++
	local := memoryAddr(net.JoinHostPort(from, strconv.Itoa(m.nextPort)))
	switch {
	case m.down[from]:
		err = syscall.ENETDOWN
	case m.down[to] || !ok:
		err = syscall.ECONNREFUSED
	}
	var near, far *memoryConn
	if err == nil { // with mu held, so that Down finds it
		near, far = connect(local, l.addr, up, down)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := l.offer(ctx, far); err != nil {
		_, _ = near.Close(), far.Close() // if the listener took it after all, it finds an end
		return nil, err
	}
	return near, nil
}

// Host is the network as one machine has it: it listens on its own name only, and what it dials comes from there.
func (m *Memory) Host(name string) Network { return memoryHost{m, name} }

type memoryHost struct {
	*Memory
	name string
}

// Listen implements Network.
func (h memoryHost) Listen(addr string) (net.Listener, error) {
	if host, _, err := net.SplitHostPort(addr); err == nil && host != h.name {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: memoryAddr(addr), Err: syscall.EADDRNOTAVAIL}
	}
	return h.Memory.Listen(addr)
}

// Dial implements Network.
func (h memoryHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := h.dial(ctx, h.name, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Source: memoryAddr(h.name), Addr: memoryAddr(addr), Err: err}
	}
	return conn, nil
}

// link is the direction between two hosts.
func (m *Memory) link(from, to string) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{from, to}
	if m.links[key] == nil {
		l := newLink(linkRandom(m.seed, from, to))
		if m.seen != nil {
			l.tell = func(size int, f Fate) { m.seen(Passage{From: from, To: to, Bytes: size, Fate: f}) }
		}
		m.links[key] = l
	}
	return m.links[key]
}

// Watch has f told of everything that is sent, lost, held and delivered, when it happens. It is called before the network is used, once;
// f is called by many goroutines, with locks held: it must be quick and must not use the network.
func (m *Memory) Watch(f func(Passage)) { m.seen = f }

// SetLink changes what happens from now on to what from sends to to, and to what is on its way there.
func (m *Memory) SetLink(from, to string, l Link) { m.link(from, to).set(l) }

// Heal makes all links perfect again: what was held back arrives.
func (m *Memory) Heal() {
	for _, l := range m.linksOf(func([2]string) bool { return true }) {
		l.set(Link{})
	}
}

// linksOf is the links that which chooses, in a fixed order.
func (m *Memory) linksOf(which func(ends [2]string) bool) []*link {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*link
	for _, ends := range slices.SortedFunc(maps.Keys(m.links), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		if which(ends) {
			out = append(out, m.links[ends])
		}
	}
	return out
}

// Down takes a host's processes away, as a kill does: its connections end at once and their peers are told, as far as its links
// carry that (behind a cut, as after a loss of power, they hear of it when it heals); it dials nobody and refuses all dials.
func (m *Memory) Down(host string) {
	m.mu.Lock()
	m.down[host] = true
	m.mu.Unlock()
	for _, l := range m.linksOf(func(ends [2]string) bool { return ends[0] == host }) {
		for _, p := range l.all() {
			p.conn.reset()
			p.drop(p.conn.peer.reset)
		}
	}
}

// Up lets a host dial and be dialled again.
func (m *Memory) Up(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.down, host)
}

type memoryListener struct {
	network *Memory
	addr    memoryAddr
	backlog chan *memoryConn
	once    sync.Once
	closed  chan struct{}
}

// offer puts a connection into the backlog.
func (l *memoryListener) offer(ctx context.Context, c *memoryConn) error {
	select {
	case l.backlog <- c:
	case <-l.closed:
		return syscall.ECONNREFUSED
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-l.closed: // perhaps after its last look at the backlog
		return syscall.ECONNREFUSED
	default:
		return nil
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.backlog:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "memory", Addr: l.addr, Err: net.ErrClosed}
}

// Close frees the address and resets the connections nobody accepted.
func (l *memoryListener) Close() error {
	err := fmt.Errorf("close listener %s: %w", l.addr, net.ErrClosed)
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
		close(l.closed)
		err = nil
		for {
			select {
			case c := <-l.backlog:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return err
}

func (l *memoryListener) Addr() net.Addr { return l.addr }
