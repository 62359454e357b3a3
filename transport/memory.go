package transport

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// memoryBacklog is how many connections may wait for Accept, as a listen backlog.
const memoryBacklog = 128

// Memory is a network inside the process, for tests of whole clusters, in virtual time as well. Addresses are any
// "host:port"; a host exists by being listened on.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	nextPort  int // for port 0 and for the dialing side
}

// NewMemory makes an empty network.
func NewMemory() *Memory {
	return &Memory{listeners: map[string]*memoryListener{}, nextPort: 49152}
}

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
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr(addr), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	m.mu.Lock()
	l, ok := m.listeners[addr]
	m.nextPort++
	local := memoryAddr("dialer:" + strconv.Itoa(m.nextPort))
	m.mu.Unlock()
	if !ok {
		return fail(syscall.ECONNREFUSED)
	}
	near, far := memoryPipe(local, l.addr)
	select {
	case l.backlog <- far:
	case <-l.closed:
		return fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	select {
	case <-l.closed: // perhaps after its last look at the backlog
		_ = far.Close()
		return fail(syscall.ECONNREFUSED)
	default:
		return near, nil
	}
}

type memoryListener struct {
	network *Memory
	addr    memoryAddr
	backlog chan *memoryConn
	once    sync.Once
	closed  chan struct{}
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
