package processes

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// filterTable drops packets on the bridge from an address to an address, and a part of all of them. ARP is left alone: who is cut off
// is silent, not unknown.
const filterTable = `table bridge gridfault {
	counter dropped { }
	set cut { type ipv4_addr . ipv4_addr; }
	chain cuts {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cut counter name dropped drop
	}
	chain losses {
		type filter hook forward priority 1; policy accept;
	}
}
`

// nft runs commands of nft(8) where the bridge is.
func (f *fabric) nft(commands string) error {
	return f.sw.do(func() error {
		_, err := toolWith(commands, "nft", "-f", "-")
		return err
	})
}

var packets = regexp.MustCompile(`packets ([0-9]+)`)

// dropped is how many packets were dropped since the counter was last reset.
func (f *fabric) dropped() (n int64, err error) {
	err = f.sw.do(func() error {
		out, err := toolWith("", "nft", "list", "counter", "bridge", "gridfault", "dropped")
		if err != nil {
			return err
		}
		m := packets.FindStringSubmatch(out)
		if m == nil {
			return fmt.Errorf("nft: no packets in %q", out)
		}
		n, err = strconv.ParseInt(m[1], 10, 64)
		return err
	})
	return n, err
}

// arrow is one direction between two addresses.
type arrow struct{ from, to string }

// between is both directions from any of some addresses to any of others.
func between(some, others []string) []arrow {
	return append(oneWay(some, others), oneWay(others, some)...)
}

func oneWay(some, others []string) (list []arrow) {
	for _, a := range some {
		for _, b := range others {
			if a != b {
				list = append(list, arrow{a, b})
			}
		}
	}
	return list
}

// cut drops what goes along arrows until the fault ends.
func (t *trial) cut(arrows []arrow) error {
	if len(arrows) == 0 {
		return errors.New("there is nothing to cut")
	}
	var elements []string
	for _, a := range arrows {
		elements = append(elements, a.from+" . "+a.to)
	}
	return t.filter("add element bridge gridfault cut { "+strings.Join(elements, ", ")+" }\n", "flush set bridge gridfault cut\n")
}

// filter gives nft rules until the fault ends; what they drop meanwhile is the proof.
func (t *trial) filter(begin, end string) error {
	net := t.g.net
	t.onHeal(func(context.Context) error {
		n, err := net.dropped()
		t.count.Add(n)
		return errors.Join(err, net.nft(end))
	})
	return net.nft("reset counter bridge gridfault dropped\n" + begin)
}

func addresses(machines ...*machine) (list []string) {
	for _, m := range machines {
		list = append(list, m.address)
	}
	return list
}

// leaderAndRest are the leading master and the other masters.
func (t *trial) leaderAndRest(ctx context.Context) (*machine, []*machine, error) {
	lead, _, err := t.g.desk.leader(ctx)
	rest := slices.DeleteFunc(t.g.of(roleMaster), func(m *machine) bool { return m == lead })
	if err == nil && len(rest) == 0 {
		err = errors.New("there is one master only")
	}
	if err == nil {
		t.met = append(t.met, lead.id)
	}
	return lead, rest, err
}

func cutLeader(ctx context.Context, t *trial) error {
	lead, rest, err := t.leaderAndRest(ctx)
	if err != nil {
		return err
	}
	return t.cut(between(addresses(lead), addresses(rest...)))
}

func cutLeaderOut(ctx context.Context, t *trial) error {
	lead, rest, err := t.leaderAndRest(ctx)
	if err != nil {
		return err
	}
	return t.cut(oneWay(addresses(lead), addresses(rest...)))
}

func cutLeaderIn(ctx context.Context, t *trial) error {
	lead, rest, err := t.leaderAndRest(ctx)
	if err != nil {
		return err
	}
	return t.cut(oneWay(addresses(rest...), addresses(lead)))
}

// cutLeaderAll cuts the leading master off from everybody but the rig.
func cutLeaderAll(ctx context.Context, t *trial) error {
	lead, _, err := t.leaderAndRest(ctx)
	if err != nil {
		return err
	}
	others := append(addresses(t.g.machines...), t.g.net.clientsBut(deskName)...)
	return t.cut(between(addresses(lead), others))
}

// cutMinority leaves the leading master with as many others as are no majority.
func cutMinority(ctx context.Context, t *trial) error {
	lead, rest, err := t.leaderAndRest(ctx)
	if err != nil {
		return err
	}
	t.rng.Shuffle(len(rest), func(i, k int) { rest[i], rest[k] = rest[k], rest[i] })
	with := minority(len(rest)+1) - 1
	return t.cut(between(addresses(append(rest[:with:with], lead)...), addresses(rest[with:]...)))
}

// cutRing lets every master see just a majority, itself included, which are its neighbours in a ring. Three masters have no such ring:
// there each would see both others; so a link of the leader's is cut, over which something goes, and the two at its ends see different
// majorities.
func cutRing(ctx context.Context, t *trial) error {
	masters := t.g.of(roleMaster)
	if len(masters) < 3 {
		return errors.New("a ring takes three masters")
	}
	if len(masters) == 3 {
		lead, rest, err := t.leaderAndRest(ctx)
		if err != nil {
			return err
		}
		other := pick(t, rest)
		t.met = append(t.met, other.id)
		return t.cut(between(addresses(lead), addresses(other)))
	}
	t.rng.Shuffle(len(masters), func(i, k int) { masters[i], masters[k] = masters[k], masters[i] })
	var arrows []arrow
	for i, m := range masters {
		for d := 2; d <= len(masters)-2; d++ { // the next and the last one are neighbours
			arrows = append(arrows, arrow{m.address, masters[(i+d)%len(masters)].address})
		}
		t.met = append(t.met, m.id)
	}
	return t.cut(arrows)
}

// cutCoordinator cuts a master off from the leader of a shard, one way or both.
func cutCoordinator(ctx context.Context, t *trial) error {
	shard, lead, _, err := t.g.desk.shardLeader(ctx, t.rng.Uint64())
	if err != nil {
		return err
	}
	m := pick(t, t.g.of(roleMaster))
	t.met = append(t.met, m.id, fmt.Sprintf("%s of %s", lead, shard.ID))
	there, back := oneWay(addresses(m), addresses(lead.m)), oneWay(addresses(lead.m), addresses(m))
	return t.cut(pick(t, [][]arrow{there, back, append(there, back...)}))
}

func cutShardLeader(ctx context.Context, t *trial) error {
	shard, lead, voters, err := t.g.desk.shardLeader(ctx, t.rng.Uint64())
	if err != nil {
		return err
	}
	t.met = append(t.met, fmt.Sprintf("%s of %s", lead, shard.ID))
	return t.cut(between(addresses(voters[0]), addresses(voters[1:]...)))
}

func cutShipper(_ context.Context, t *trial) error {
	t.met = append(t.met, "events")
	return t.cut(between(addresses(t.events().m), addresses(t.g.of(roleMaster)...)))
}

// cutClients cuts half of the clients that have talked to the leading master off from it.
func cutClients(ctx context.Context, t *trial) error {
	lead, _, err := t.g.desk.leader(ctx)
	if err != nil {
		return err
	}
	clients := t.g.net.callers(lead.address)
	if len(clients) == 0 {
		return fmt.Errorf("no client has talked to %s", lead.id)
	}
	t.rng.Shuffle(len(clients), func(i, k int) { clients[i], clients[k] = clients[k], clients[i] })
	t.met = append(t.met, lead.id)
	return t.cut(between(addresses(lead), clients[:(len(clients)+1)/2]))
}

// callers are the addresses of the clients that have connected to a machine, the rig's own left out.
func (f *fabric) callers(machine string) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for client := range f.calls[machine] {
		if client != f.addresses[deskName] {
			list = append(list, client)
		}
	}
	slices.Sort(list)
	return list
}

// clientsBut are the addresses of all clients but one, in the order in which they came.
func (f *fabric) clientsBut(name string) (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for who, a := range f.addresses {
		if who != name {
			list = append(list, a)
		}
	}
	slices.Sort(list)
	return list
}

// loseSome loses a part of all packets, the rig's own too.
func loseSome(_ context.Context, t *trial) error {
	permille := t.roll(10, 200)
	t.met = append(t.met, fmt.Sprintf("all links, %d in 1,000", permille))
	return t.filter(fmt.Sprintf("add rule bridge gridfault losses ip saddr 0.0.0.0/0 numgen random mod 1000 < %d counter name dropped drop\n", permille),
		"flush chain bridge gridfault losses\n")
}

var _ transport.Network = (*host)(nil)
