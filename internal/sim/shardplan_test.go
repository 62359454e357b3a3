package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// nodeFaults are what a plan of a grid with storage nodes draws from. One that takes a shard's leader away waits until the masters know
// another one, one that kills a node until its agent has noticed: otherwise it would prove nothing.
var nodeFaults = []fault{
	shardLeader("kill a shard's leader", func(w *world, e *estate, _ *rand.Rand) { w.kill(e) }),
	shardLeader("cut the power of a shard's leader", func(w *world, e *estate, _ *rand.Rand) {
		w.isolate(e.host, w.hosts)
		w.kill(e)
	}),
	shardLeader("isolate a shard's leader", func(w *world, e *estate, _ *rand.Rand) { w.isolate(e.host, w.hosts) }),
	shardLeader("isolate a shard's leader from the nodes", func(w *world, e *estate, _ *rand.Rand) { w.isolate(e.host, w.nodeHosts()) }),
	shardLeader("let nothing out of a shard's leader", func(w *world, e *estate, _ *rand.Rand) { w.cut([]string{e.host}, w.nodeHosts()) }),
	shardLeader("let nothing in to a shard's leader", func(w *world, e *estate, _ *rand.Rand) { w.cut(w.nodeHosts(), []string{e.host}) }),
	{"kill a node", false, false, func(w *world, _ event.MasterID, r *rand.Rand) { w.kill(w.settled[r.IntN(len(w.settled))]) }},
	{"kill a majority of the nodes", false, false, func(w *world, _ event.MasterID, r *rand.Rand) {
		for _, i := range r.Perm(len(w.settled))[:len(w.settled)/2+1] {
			w.kill(w.settled[i])
		}
	}},
	{"kill all nodes", false, false, func(w *world, _ event.MasterID, _ *rand.Rand) { w.killNodes() }},
	{"isolate a node from the masters", false, false, func(w *world, _ event.MasterID, r *rand.Rand) {
		w.isolate(w.settled[r.IntN(len(w.settled))].host, w.masterHosts())
	}},
	{"slow links between nodes and masters", false, false, func(w *world, _ event.MasterID, r *rand.Rand) { w.slowNodes(r) }},
	{"lose what nodes and masters answer a user", false, false, func(w *world, _ event.MasterID, r *rand.Rand) {
		w.cut(slices.Concat(w.nodeHosts(), w.masterHosts()), []string{clientHost(r.IntN(owners))})
	}},
	{"lose what nodes answer the masters", false, false, func(w *world, _ event.MasterID, _ *rand.Rand) { w.cut(w.nodeHosts(), w.masterHosts()) }},
	{"lose what masters ask the nodes", false, false, func(w *world, _ event.MasterID, _ *rand.Rand) { w.cut(w.masterHosts(), w.nodeHosts()) }},
	{"kill a follower", false, false, func(w *world, l event.MasterID, r *rand.Rand) { w.crash(w.some(1, l, r)[0]) }},
	{"kill the leader of the masters", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.crash(l) }},
	{"isolate the leader of the masters", true, false, func(w *world, l event.MasterID, _ *rand.Rand) { w.isolate(l, w.hosts) }},
	{"kill the leader of the masters and a node", true, false, func(w *world, l event.MasterID, r *rand.Rand) {
		w.crash(l)
		w.kill(w.settled[r.IntN(len(w.settled))])
	}},
	{"kill everything", true, false, func(w *world, _ event.MasterID, _ *rand.Rand) {
		w.killNodes()
		for _, id := range w.ids {
			w.crash(id)
		}
		w.restart()
	}},
}

// shardLeader is a fault that takes the leader of a shard away, and is over when another one leads it.
func shardLeader(name string, do func(*world, *estate, *rand.Rand)) fault {
	return fault{name, false, false, func(w *world, l event.MasterID, r *rand.Rand) {
		shard := event.ShardID(fmt.Sprintf("shard-%d", r.IntN(2)))
		before := *w.member(l).View().Shard(shard)
		do(w, w.estateOf(w.member(l).View().Node(before.Leader).AgentID), r)
		w.fault(w.eventually(fmt.Sprintf("%s led by another than %s of term %d", shard, before.Leader, before.Term), func(s *fsm.State) bool {
			now := s.Shard(shard)
			return now.Leader != before.Leader && now.Term > before.Term
		}))
		w.deposed.Add(1)
	}}
}

// eventually waits until the state of the first running master is as wanted.
func (w *world) eventually(what string, right func(*fsm.State) bool) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		m := w.member(w.running()[0])
		changed := m.Changed()
		if right(m.View()) {
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("not %s within %s", what, patience)
		}
	}
}

func (w *world) nodeHosts() []string {
	var hosts []string
	for _, e := range w.settled {
		hosts = append(hosts, e.host)
	}
	return hosts
}

// kill ends a node until revive; one that is down already stays so.
func (w *world) kill(e *estate) {
	if t := e.present(); t != nil && t.alive() {
		w.dead = append(w.dead, e.crash())
		w.killed.Add(1)
	}
}

func quiet(*world, event.MasterID, *rand.Rand) {}

func (w *world) killNodes() {
	for _, e := range w.settled {
		w.kill(e)
	}
}

// revive lets the agents start what was killed, and waits until every node runs and every shard has a leader.
func (w *world) revive() error {
	for _, restart := range w.dead {
		restart()
	}
	w.dead = nil
	return w.eventually("whole", func(s *fsm.State) bool {
		whole := s.Cluster().RunningNodes == uint32(w.estates)
		formed := 0
		for sh := range s.Shards() {
			whole = whole && sh.Term > 0 && int(sh.Live) == len(sh.Voters)
			formed++
		}
		return whole && formed == 2
	})
}

// slowNodes makes the links of nodes slow, among each other and to the masters.
func (w *world) slowNodes(r *rand.Rand) {
	for _, a := range w.nodeHosts() {
		for _, b := range slices.Concat(w.nodeHosts(), w.masterHosts()) {
			if a != b {
				slow := transport.Link{Delay: time.Duration(1+r.IntN(40)) * time.Millisecond, Jitter: 20 * time.Millisecond, Bandwidth: 1 << 20}
				w.net.SetLink(a, b, slow)
				w.net.SetLink(b, a, slow)
			}
		}
	}
}

// nodeSteps is how many steps a grid with storage nodes lives through: an agent leaves a node down that crashed ten times in ten minutes.
const nodeSteps = 9

// nodePlan is the steps of a run with storage nodes, and how many of them take the masters' leader away.
func nodePlan(seed uint64, steps int) (all []step, losses int) {
	r := rand.New(rand.NewPCG(seed, 3))
	for range steps {
		s := step{fault: nodeFaults[r.IntN(len(nodeFaults))], dice: r.Uint64()}
		s.hold = time.Duration(100+r.IntN(4000)) * time.Millisecond
		s.rest = time.Duration(500+r.IntN(2000)) * time.Millisecond
		all = append(all, s)
		if s.fault.leader {
			losses++
		}
	}
	return all, losses
}
