package transport

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Link says what happens to everything one host sends to another; the zero value is a perfect link. The other direction is a
// link of its own.
//
// It is TCP that travels over a link: nothing that was sent is lost on a connection that lives on, it comes late or never. So
// behind a cut a connection hangs and goes on when the link heals, as after a retransmission. A direction also carries what the
// protocol says about the other one: over a cut in one direction, the other delivers a window of 64 KiB and no more.
type Link struct {
	Cut       bool          // nothing arrives: connections hang, dials (of either side) wait for the link or their context
	Refuse    bool          // dials are refused; connections are reset, once, when this is set
	Delay     time.Duration // of everything
	Jitter    time.Duration // up to this much more, drawn from the network's seed
	Bandwidth int           // bytes per second; 0: no limit

	// Loss is the share of what is sent that is lost and sent again, as TCP does it: after 10 ms (a probe for a lost tail), then after
	// 200 ms, 400 ms, and so on, with all behind it waiting. Break is the share that is lost for good: no TCP goes on behind that, so
	// both ends are reset, and a request and its answer are lost separately. Both 0 to 1, drawn from the network's seed.
	Loss, Break float64
}

// Fate is what became of something that was sent.
type Fate uint8

// The fates.
const (
	Delivered Fate = iota // it arrived
	Held                  // it met a cut, as bytes or as a dial: it waits for the link
	Lost                  // it was lost on its way and sent again
	Broken                // it was lost on its way, and its connection with it
	Sent                  // it left; what becomes of it follows
)

// Passage is one thing that was sent from one host to another, and its fate; what was held or lost may be delivered later, as a
// passage of its own.
type Passage struct {
	From, To string
	Bytes    int // 0: word that some were read, the end of a direction, or a dial
	Fate     Fate
}

// link is one direction between two hosts.
type link struct {
	mu      sync.Mutex
	now     Link             // guarded by mu
	changed chan struct{}    // guarded by mu; closed and replaced when now is
	rand    *rand.Rand       // guarded by mu; of the jitter
	busy    time.Time        // guarded by mu; the bandwidth is used up to here
	paths   map[*path]uint64 // guarded by mu; connections that use it, with their number in order of birth
	born    uint64           // guarded by mu
	tell    func(int, Fate)  // of each passage; nil: nobody asks
}

func newLink(random *rand.Rand) *link {
	return &link{changed: make(chan struct{}), rand: random, paths: map[*path]uint64{}}
}

// told tells of a passage.
func (l *link) told(size int, f Fate) {
	if l.tell != nil {
		l.tell(size, f)
	}
}

// linkRandom makes a link's jitter depend on the seed, its ends, and nothing else.
func linkRandom(seed uint64, from, to string) *rand.Rand {
	var h uint64 = 14695981039346656037 // FNV-1a
	for _, b := range []byte(from + ">" + to) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// arrival is when size bytes sent now arrive; zero: at once. A cut does not change it.
func (l *link) arrival(size int) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now.Delay == 0 && l.now.Jitter == 0 && l.now.Bandwidth == 0 && l.now.Loss == 0 {
		return time.Time{}
	}
	at := time.Now()
	if l.now.Bandwidth > 0 {
		if at.Before(l.busy) {
			at = l.busy
		}
		at = at.Add(time.Duration(float64(size) / float64(l.now.Bandwidth) * float64(time.Second)))
		l.busy = at
	}
	at = at.Add(l.now.Delay)
	if l.now.Jitter > 0 {
		at = at.Add(time.Duration(l.rand.Int64N(int64(l.now.Jitter) + 1)))
	}
	if l.now.Loss > 0 {
		at = at.Add(l.lostLocked(size))
	}
	return at
}

// The clocks of TCP for what is not acknowledged.
const (
	lossProbe = 10 * time.Millisecond
	lossAgain = 200 * time.Millisecond // doubled each time
	lossTries = 8                      // by then half a minute has passed, and who sent it has given up
)

// lostLocked is how much later something arrives because of how often it is lost.
func (l *link) lostLocked(size int) (late time.Duration) {
	wait := lossProbe
	for range lossTries {
		if l.rand.Float64() >= l.now.Loss {
			break
		}
		l.told(size, Lost)
		late += wait
		wait = max(2*wait, lossAgain)
	}
	return late
}

// breaks draws whether what is sent now is lost for good.
func (l *link) breaks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now.Break > 0 && l.rand.Float64() < l.now.Break
}

func (l *link) is() (Link, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.changed
}

// pass waits until something sent now has arrived: the way of a dial.
func (l *link) pass(ctx context.Context) error {
	for {
		now, changed := l.is()
		switch {
		case now.Cut:
			l.told(0, Held)
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		case now.Refuse:
			return syscall.ECONNREFUSED
		}
		at := l.arrival(0)
		if at.IsZero() {
			return nil
		}
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set changes the link and everything that is on its way.
func (l *link) set(to Link) {
	l.mu.Lock()
	begins := to.Cut && !l.now.Cut
	l.now = to
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	for _, p := range l.all() {
		if begins {
			p.held()
		}
		if to.Refuse {
			p.conn.reset()
			p.conn.peer.reset()
		}
		p.pump()
	}
}

// all is the connections that use the link, oldest first.
func (l *link) all() []*path {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Keys(l.paths), func(a, b *path) int { return cmp.Compare(l.paths[a], l.paths[b]) })
}

func (l *link) add(p *path) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.born++
	l.paths[p] = l.born
}

func (l *link) remove(p *path) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.paths, p)
}

// packet is one thing on its way: bytes, word that some were read, the end of a direction.
type packet struct {
	at      time.Time // zero: at once
	size    int       // in bytes
	deliver func()    // takes no lock but a stream's
}

// path carries what one end of a connection sends, in its order.
type path struct {
	link *link
	conn *memoryConn // the end that sends

	mu    sync.Mutex
	queue []packet    // guarded by mu
	last  time.Time   // guarded by mu; when the last one arrives
	timer *time.Timer // guarded by mu; pumps when the first one arrives
	shut  bool        // guarded by mu; nothing more is sent
}

// send puts a packet of size bytes on its way. The caller holds no lock.
func (p *path) send(size int, deliver func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return
	}
	p.link.told(size, Sent)
	if p.link.breaks() {
		p.link.told(size, Broken)
		p.conn.reset()
		p.conn.peer.reset()
		return
	}
	at := p.link.arrival(size)
	if at.Before(p.last) {
		at = p.last
	}
	p.last = at
	p.queue = append(p.queue, packet{at, size, deliver})
	if now, _ := p.link.is(); now.Cut {
		p.link.told(size, Held)
	}
	p.pumpLocked()
}

// end is send for the last packet.
func (p *path) end(deliver func()) {
	p.send(0, deliver)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	p.pumpLocked() // with nothing left, the link forgets the path
}

// held tells of what was on its way when a cut began.
func (p *path) held() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queue {
		p.link.told(q.size, Held)
	}
}

// pump delivers what has arrived by now.
func (p *path) pump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pumpLocked()
}

func (p *path) pumpLocked() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	now, _ := p.link.is()
	for len(p.queue) > 0 && !now.Cut {
		if wait := time.Until(p.queue[0].at); !p.queue[0].at.IsZero() && wait > 0 {
			p.timer = time.AfterFunc(wait, p.pump)
			return
		}
		p.link.told(p.queue[0].size, Delivered)
		p.queue[0].deliver()
		p.queue[0].deliver = nil
		p.queue = p.queue[1:]
	}
	if len(p.queue) == 0 {
		p.queue = nil
		if p.shut {
			p.link.remove(p)
		}
	}
}

// drop forgets what is on its way, and ends the path with one last packet.
func (p *path) drop(last func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue, p.shut = []packet{{p.link.arrival(0), 0, last}}, true
	p.pumpLocked()
}
