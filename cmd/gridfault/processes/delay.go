package processes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// slowSwitch takes the bridge's place while links are slow: it reads every frame that leaves a machine, and gives it to the machine that
// it is for, late. (The kernel's own means, netem, is not in every kernel.)
//
//	port -> queue of the port, each frame with the moment when it is due -> port
//
// Invariants: what leaves one machine arrives in the order in which it left; no queue holds more than slowQueue frames, and what does not
// fit is lost, as on a line.
type slowSwitch struct {
	ports   []*slowPort
	stopped atomic.Bool
	running sync.WaitGroup

	mu    sync.Mutex
	knows map[[6]byte]*slowPort // where an Ethernet address is; guarded by mu
}

// slowPort is one interface of the bridge.
type slowPort struct {
	fd    int // a packet socket with virtio headers, so that checksums and segments are still the kernel's
	queue chan slowFrame
	rng   *rand.Rand // used by its reader
}

type slowFrame struct {
	bytes []byte // virtio header and frame
	due   time.Time
}

const (
	slowQueue   = 4096
	virtioBytes = 10
	frameMax    = virtioBytes + 14 + 65536
	etherBytes  = 12                     // the two addresses
	portWait    = 100 * time.Millisecond // how long a reader waits before it looks whether it is to stop
)

// newSlowSwitch opens the ports; where they are is where the bridge is. Between base and base and a jitter is every frame's delay.
func newSlowSwitch(space *namespace, names []string, base, jitter time.Duration, seed uint64) (*slowSwitch, error) {
	s := &slowSwitch{knows: map[[6]byte]*slowPort{}}
	err := space.do(func() error {
		for i, name := range names {
			fd, err := openPort(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			s.ports = append(s.ports, &slowPort{fd: fd, queue: make(chan slowFrame, slowQueue), rng: rand.New(rand.NewPCG(seed, uint64(i)))})
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	for _, p := range s.ports {
		s.running.Go(func() { s.read(p, base, jitter) })
		s.running.Go(func() { s.deliver(p) })
	}
	return s, nil
}

// openPort makes a socket that gets what arrives at an interface and sends through it.
func openPort(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	wait := unix.NsecToTimeval(int64(portWait))
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: link.Index}))
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// read queues what a machine sends.
func (s *slowSwitch) read(p *slowPort, base, jitter time.Duration) {
	defer close(p.queue)
	buf := make([]byte, frameMax)
	var last time.Time
	for !s.stopped.Load() {
		n, _, err := unix.Recvfrom(p.fd, buf, 0)
		if err != nil || n < virtioBytes+etherBytes {
			continue // nothing came; an interface that is gone says so until the switch is stopped
		}
		due := time.Now().Add(base + time.Duration(p.rng.Int64N(int64(jitter)+1)))
		if due.Before(last) {
			due = last
		}
		last = due
		s.learn([6]byte(buf[virtioBytes+6:virtioBytes+etherBytes]), p)
		select {
		case p.queue <- slowFrame{append([]byte{}, buf[:n]...), due}:
		default:
		}
	}
}

// deliver sends a port's frames when they are due.
func (s *slowSwitch) deliver(p *slowPort) {
	for f := range p.queue {
		if wait := time.Until(f.due); wait > 0 && !s.stopped.Load() {
			time.Sleep(wait) // the line's length, not a wait for somebody
		}
		for _, to := range s.to(f.bytes, p) {
			_, _ = unix.Write(to.fd, f.bytes) // a frame that cannot be sent is lost
		}
	}
}

// learn notes where an address is.
func (s *slowSwitch) learn(mac [6]byte, p *slowPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knows[mac] = p
}

// to is where a frame goes: to the port that has its address, or to all but its own.
func (s *slowSwitch) to(frame []byte, from *slowPort) (list []*slowPort) {
	s.mu.Lock()
	p := s.knows[[6]byte(frame[virtioBytes:virtioBytes+6])]
	s.mu.Unlock()
	if p != nil {
		return []*slowPort{p}
	}
	for _, p := range s.ports {
		if p != from {
			list = append(list, p)
		}
	}
	return list
}

func (s *slowSwitch) close() error {
	s.stopped.Store(true)
	s.running.Wait()
	var faults []error
	for _, p := range s.ports {
		faults = append(faults, unix.Close(p.fd))
	}
	return errors.Join(faults...)
}

// slowLinks makes every link slow, by 3 to 25 ms each way and up to as much again: the slowest round trip, 100 ms, is half of the masters'
// lease, so that there can be a leader. Round trips of the rig's own that take as long as two
// delays are the proof.
func slowLinks(ctx context.Context, t *trial) error {
	base := time.Duration(t.roll(3, 25)) * time.Millisecond
	t.met = append(t.met, fmt.Sprintf("all links, %v and up to %v", base, 2*base))
	f := t.g.net
	f.mu.Lock()
	var names, leave, back []string
	for i := range f.ports {
		name := fmt.Sprintf("port%d", i+1)
		names, leave, back = append(names, name), append(leave, "link set "+name+" nomaster"), append(back, "link set "+name+" master br0")
	}
	f.mu.Unlock()
	s, err := newSlowSwitch(f.sw, names, base, base, t.rng.Uint64())
	if err != nil {
		return err
	}
	t.onHeal(func(context.Context) error { return errors.Join(s.close(), f.ip(f.sw, back...)) })
	if err := f.ip(f.sw, leave...); err != nil {
		return err
	}
	t.timeTrips(ctx, 2*base)
	return nil
}

// timeTrips connects to one machine after the other until the fault ends, and counts the connections that took as long as they have to.
func (t *trial) timeTrips(ctx context.Context, least time.Duration) {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	t.onHeal(func(context.Context) error {
		stop()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			begun := time.Now()
			conn, err := t.g.Network(deskName).Dial(work, t.g.machines[i%len(t.g.machines)].grid)
			if err == nil { // one that failed proves nothing
				_ = conn.Close()
				if time.Since(begun) >= least {
					t.count.Add(1)
				}
			}
			select {
			case <-work.Done():
				return
			case <-tick.C:
			}
		}
	}()
}
