package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// network makes an injector of what a fault does to the links.
func network(design func(*Grid, *rand.Rand) (e *effect, met string, err error)) injector {
	return func(g *Grid, _ context.Context, f rig.Fault) (*injected, error) {
		e, met, err := design(g, dice(f))
		if err != nil {
			return nil, err
		}
		g.wires.begin(e)
		in := &injected{met: met}
		in.heal = func(ctx context.Context) error {
			if e.met.Load() == 0 && e.idle != "" {
				g.knock(ctx, e)
			}
			g.wires.end(e)
			in.count = e.met.Load()
			return nil
		}
		return in, nil
	}
}

// knock dials somebody for whom nobody had a word: an agent without nodes sends one every 10 s, and a shipper that was refused waits as
// long. What becomes of it the wires see.
func (g *Grid) knock(ctx context.Context, e *effect) {
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
	from := eventsHost
	if strings.HasPrefix(e.idle, from+":") {
		from = g.masters[0].host()
	}
	if c, err := g.net.Host(from).Dial(ctx, e.idle); err == nil {
		_ = c.Close() // the wires have seen it
	}
}

// cut is an effect that lets nothing through, where on says.
func cut(on func(from, to string) bool) *effect {
	return &effect{on: on, patience: time.Millisecond, change: func(l *transport.Link) { l.Cut = true }, counts: func(p transport.Passage) bool { return p.Fate == transport.Held }}
}

// between is the links between two groups of hosts, both ways.
func between(a, b []string) func(from, to string) bool {
	return func(from, to string) bool {
		return slices.Contains(a, from) && slices.Contains(b, to) || slices.Contains(b, from) && slices.Contains(a, to)
	}
}

var (
	errNoLeader  = errors.New("no master leads now")
	errNoShard   = errors.New("no shard has a leader that runs now")
	errNoClients = errors.New("there are no clients")
	errNoOther   = errors.New("the shard has one voter: there is nobody to cut it off from")
)

func (g *Grid) leading() (string, error) {
	p, _, ok := g.leader()
	if !ok {
		return "", errNoLeader
	}
	return p.host(), nil
}

func (g *Grid) masterHosts() []string {
	var hosts []string
	for _, m := range g.masters {
		hosts = append(hosts, m.host())
	}
	return hosts
}

// without is all but some.
func without(all []string, some ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(h string) bool { return slices.Contains(some, h) })
}

func (g *Grid) cutLeader(*rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	return cut(between([]string{l}, without(g.masterHosts(), l))), l, err
}

func (g *Grid) cutLeaderAll(*rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	return cut(alone(l)), l, err
}

// alone is all links of one host.
func alone(host string) func(from, to string) bool {
	return func(from, to string) bool { return from == host || to == host }
}

func (g *Grid) cutMinority(r *rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	others := without(g.masterHosts(), l)
	r.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	few := (len(g.masters) - 1) / 2
	small := append([]string{l}, others[:few-1]...)
	return cut(between(small, others[few-1:])), strings.Join(small, ", "), err
}

// cutRing: of five masters each keeps its two neighbours in a ring, of three each hears one of the others and is heard by the other one.
func (g *Grid) cutRing(r *rand.Rand) (*effect, string, error) {
	ring := g.masterHosts()
	r.Shuffle(len(ring), func(i, j int) { ring[i], ring[j] = ring[j], ring[i] })
	on := func(from, to string) bool {
		a, b := slices.Index(ring, from), slices.Index(ring, to)
		if a < 0 || b < 0 {
			return false
		}
		ahead := (b - a + len(ring)) % len(ring)
		if len(ring) == 3 {
			return ahead == 2
		}
		return ahead != 1 && ahead != len(ring)-1
	}
	return cut(on), strings.Join(ring, ", "), nil
}

func (g *Grid) cutLeaderOut(*rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	return cut(g.oneWay([]string{l}, g.masterHosts())), l, err
}

func (g *Grid) cutLeaderIn(*rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	return cut(g.oneWay(g.masterHosts(), []string{l})), l, err
}

// oneWay is the links from one group of hosts to another.
func (g *Grid) oneWay(a, b []string) func(from, to string) bool {
	return func(from, to string) bool { return slices.Contains(a, from) && slices.Contains(b, to) }
}

func (g *Grid) cutCoordinator(r *rand.Rand) (*effect, string, error) {
	_, node, err := g.shardLeader(r)
	if err != nil {
		return nil, "", err
	}
	m, l := []string{g.masters[r.IntN(len(g.masters))].host()}, []string{node}
	on := []func(from, to string) bool{between(m, l), g.oneWay(m, l), g.oneWay(l, m)}[r.IntN(3)]
	return cut(on), m[0] + ", " + node, nil
}

func (g *Grid) cutShardLeader(r *rand.Rand) (*effect, string, error) {
	s, node, err := g.shardLeader(r)
	if err != nil {
		return nil, "", err
	}
	v, err := g.view()
	if err != nil {
		return nil, "", err
	}
	var others []string
	for _, voter := range s.Voters {
		if h := g.homeOf(v, voter.NodeID); h != nil && h.host() != node {
			others = append(others, h.host())
		}
	}
	if len(others) == 0 {
		return nil, "", errNoOther
	}
	return cut(between([]string{node}, others)), fmt.Sprintf("%s of %s", node, s.ID), nil
}

// shardLeader draws a shard whose leader runs, and says on which host.
func (g *Grid) shardLeader(r *rand.Rand) (*fsm.Shard, string, error) {
	v, err := g.view()
	if err != nil {
		return nil, "", err
	}
	var shards []*fsm.Shard
	for s := range v.Shards() {
		if h := g.homeOf(v, s.Leader); h != nil && h.lodger().alive() {
			shards = append(shards, s)
		}
	}
	if len(shards) == 0 {
		return nil, "", errNoShard
	}
	s := shards[r.IntN(len(shards))]
	return s, g.homeOf(v, s.Leader).host(), nil
}

// homeOf is where a node runs; nil: nowhere.
func (g *Grid) homeOf(v *fsm.State, id event.NodeID) *home {
	n := v.Node(id)
	if n == nil {
		return nil
	}
	for _, h := range g.homes {
		if h.id == n.AgentID {
			return h
		}
	}
	return nil
}

func (g *Grid) cutShipper(*rand.Rand) (*effect, string, error) {
	e := cut(between([]string{eventsHost}, g.masterHosts()))
	e.idle = g.layout.Events
	return e, eventsHost, nil
}

func (g *Grid) cutClients(r *rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	if err != nil {
		return nil, "", err
	}
	some := g.wires.clients()
	if len(some) == 0 {
		return nil, "", errNoClients
	}
	r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	some = some[:len(some)-len(some)/4]
	return cut(between([]string{l}, some)), fmt.Sprintf("%s, from %s", l, strings.Join(some, ", ")), nil
}

// everywhere is all links.
func everywhere(string, string) bool { return true }

// lossy: of a hundred things sent one to five are lost and sent again, and of a thousand one is lost with its connection.
func (g *Grid) lossy(r *rand.Rand) (*effect, string, error) {
	loss := 0.01 + 0.04*r.Float64()
	return &effect{on: everywhere, change: func(l *transport.Link) { l.Loss, l.Break = loss, 0.001 },
		counts: func(p transport.Passage) bool { return p.Fate == transport.Lost || p.Fate == transport.Broken }}, fmt.Sprintf("all, %.1f %%", 100*loss), nil
}

// slow: below what costs a leader its lease.
func (g *Grid) slow(r *rand.Rand) (*effect, string, error) {
	delay := time.Duration(2+r.IntN(25)) * time.Millisecond
	return late(everywhere, delay), fmt.Sprintf("all, %s", delay), nil
}

func (g *Grid) slowSink(r *rand.Rand) (*effect, string, error) {
	delay := time.Duration(100+r.IntN(900)) * time.Millisecond
	e := late(alone(eventsHost), delay)
	e.idle, e.patience = g.layout.Events, 5*time.Second // a dial there and back, and its end
	return e, fmt.Sprintf("%s, %s", eventsHost, delay), nil
}

// late is an effect that delays, by delay to twice as much.
func late(on func(from, to string) bool, delay time.Duration) *effect {
	return &effect{on: on, change: func(l *transport.Link) { l.Delay, l.Jitter = l.Delay+delay, l.Jitter+delay },
		counts: func(p transport.Passage) bool { return p.Fate == transport.Sent }}
}

// A process that stands still: what is sent to it waits, and it sends nothing. Its own clocks go on, see the package.

func (g *Grid) pauseLeader(*rand.Rand) (*effect, string, error) {
	l, err := g.leading()
	return cut(alone(l)), l, err
}

func (g *Grid) pauseShard(r *rand.Rand) (*effect, string, error) {
	_, node, err := g.shardLeader(r)
	return cut(alone(node)), node, err
}

func (g *Grid) pauseRandom(r *rand.Rand) (*effect, string, error) {
	p, err := g.any(r)
	if err != nil {
		return nil, "", err
	}
	e := cut(alone(p.host()))
	e.idle = net.JoinHostPort(p.host(), "1") // whether somebody listens there is not asked
	return e, p.host(), nil
}
