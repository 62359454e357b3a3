package processes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// namespaces is where ip(8) keeps them by name.
const namespaces = "/run/netns"

// namespace is a network namespace of the run.
type namespace struct {
	name string
	file *os.File
	home *os.File // the one that threads return to
}

func newNamespace(name string, home *os.File) (*namespace, error) {
	if err := tool("ip", "netns", "add", name); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(namespaces, name))
	if err != nil {
		return nil, errors.Join(err, tool("ip", "netns", "del", name))
	}
	return &namespace{name: name, file: f, home: home}, nil
}

// do runs fn on a thread that is in the namespace; sockets that it makes and processes that it starts belong there for ever. fn must
// do that itself and not in a goroutine. nil is the namespace of this process.
func (n *namespace) do(fn func() error) error {
	if n == nil {
		return fn()
	}
	runtime.LockOSThread()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", n.name, err)
	}
	err := fn()
	if back := unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread must run nothing else: it stays locked, and ends with this goroutine.
		return errors.Join(err, fmt.Errorf("leave namespace %s: %w", n.name, back))
	}
	runtime.UnlockOSThread()
	return err
}

func (n *namespace) close() error {
	return errors.Join(n.file.Close(), tool("ip", "netns", "del", n.name))
}

// fabric is a bridge in a namespace of its own, to which every machine and the clients' host are joined.
//
// Invariant: nothing of it is in the root namespace.
type fabric struct {
	run     run
	home    *os.File
	sw      *namespace // has the bridge and nft's table
	clients *namespace
	spaces  []*namespace // all of them

	mu        sync.Mutex
	ports     int               // of the bridge; guarded by mu
	addresses map[string]string // of clients, by name; guarded by mu

	calls map[string]map[string]bool // of a machine's address: the clients' that have connected to it; guarded by mu
}

// The addresses: machines are 10.97.0.N, clients 10.97.(1+).N.
const (
	network  = "10.97"
	prefix   = "/16"
	perBlock = 250
)

func newFabric(r run, filter bool) (*fabric, error) {
	f := &fabric{run: r, addresses: map[string]string{}, calls: map[string]map[string]bool{}}
	err := f.open(filter)
	if err != nil {
		err = errors.Join(err, f.close())
	}
	return f, err
}

func (f *fabric) open(filter bool) (err error) {
	if f.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if f.sw, err = f.add("switch"); err != nil {
		return err
	}
	if err := f.ip(f.sw, "link set lo up", "link add br0 type bridge", "link set br0 up"); err != nil {
		return err
	}
	if filter {
		if err := f.nft(filterTable); err != nil {
			return err
		}
	}
	f.clients, err = f.join("clients", clientAddress(0))
	return err
}

// add makes a namespace.
func (f *fabric) add(id string) (*namespace, error) {
	n, err := newNamespace(f.run.name+"-"+id, f.home)
	if err == nil {
		f.spaces = append(f.spaces, n)
	}
	return n, err
}

// join makes a namespace with one interface, eth0, on the bridge.
func (f *fabric) join(id, address string) (*namespace, error) {
	n, err := f.add(id)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.ports++
	port := fmt.Sprintf("port%d", f.ports)
	f.mu.Unlock()
	if err := f.ip(f.sw, "link add "+port+" type veth peer name eth0 netns "+n.name, "link set "+port+" master br0 up"); err != nil {
		return nil, err
	}
	return n, f.ip(n, "link set lo up", "addr add "+address+prefix+" dev eth0", "link set eth0 up")
}

// ip runs lines of ip(8) in a namespace.
func (f *fabric) ip(n *namespace, lines ...string) error {
	_, err := toolWith(strings.Join(lines, "\n")+"\n", "ip", "-n", n.name, "-batch", "-")
	return err
}

func (f *fabric) machineAddress(i int) string { return fmt.Sprintf("%s.0.%d", network, i+1) }

func clientAddress(i int) string { return fmt.Sprintf("%s.%d.%d", network, 1+i/perBlock, 1+i%perBlock) }

// client is the address of a client, which is made when it is first asked for.
func (f *fabric) client(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.addresses[name]; ok {
		return a, nil
	}
	i := len(f.addresses) + 1
	if i >= perBlock*perBlock {
		return "", fmt.Errorf("client %s: more than %d of them", name, i)
	}
	a := clientAddress(i)
	if err := f.ip(f.clients, "addr add "+a+prefix+" dev eth0"); err != nil {
		return "", err
	}
	f.addresses[name] = a
	return a, nil
}

func (f *fabric) close() error {
	var faults []error
	for _, n := range f.spaces {
		faults = append(faults, n.close())
	}
	f.spaces = nil
	if f.home != nil {
		faults = append(faults, f.home.Close())
	}
	return errors.Join(faults...)
}

// host is a client's network: a transport.Network.
type host struct {
	fabric *fabric
	name   string
}

// As those of transport.TCP.
const dialTimeout = 3 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}

// Dial implements transport.Network. addr is an IP address: a resolver would work outside the namespace.
func (h *host) Dial(ctx context.Context, addr string) (conn net.Conn, err error) {
	local, err := h.fabric.client(h.name)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive, LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	err = h.fabric.clients.do(func() error {
		conn, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	if err == nil {
		h.fabric.noteCall(addr, local)
	}
	return conn, err
}

func (f *fabric) noteCall(to, from string) {
	machine, _, _ := net.SplitHostPort(to) // it was dialled
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[machine] == nil {
		f.calls[machine] = map[string]bool{}
	}
	f.calls[machine][from] = true
}

// Listen implements transport.Network.
func (h *host) Listen(addr string) (l net.Listener, err error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	err = h.fabric.clients.do(func() error {
		l, err = lc.Listen(context.Background(), "tcp4", addr)
		return err
	})
	return l, err
}
