package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master"
	"github.com/sutra-grid/sutra-grid/transport"
)

// newcomer is the master that joins and leaves.
const newcomer event.MasterID = "master-9"

// council is a grid whose members change. Its time-outs are those of a wide network, so that minutes cost little.
type council struct {
	*world
	elsewhere map[event.MasterID]string // ports of a master that has moved
	opening   chan error                // of the newcomer's Open; nil: it is not opening
	leave     context.CancelFunc
}

func newCouncil(t *testing.T, masters int) *council {
	c := &council{elsewhere: map[event.MasterID]string{}}
	c.world = newWorld(t, scenario{seed: seed(t, 5), masters: masters, tune: func(cfg *master.Config) {
		cfg.Raft.Timeouts = raftgroup.WAN()
		var list []string
		for i := range masters {
			list = append(list, c.listed(event.MasterID(fmt.Sprintf("master-%d", i+1)), cfg.ID))
		}
		if cfg.ID == newcomer {
			cfg.Bootstrap, cfg.Join = false, true
			list = append(list, c.listed(newcomer, cfg.ID))
		}
		cfg.Peers, _ = master.ParsePeers(strings.Join(list, ","))
	}})
	c.hosts = slices.Insert(c.hosts, len(c.ids), string(newcomer))
	c.ids = append(c.ids, newcomer)
	c.readers[newcomer] = &replicaFeed{}
	c.heal()
	return c
}

// listed is a master in the list of another: only its own has the place to which it moved.
func (c *council) listed(id, by event.MasterID) string {
	ports := "7000/7001/7002"
	if moved := c.elsewhere[id]; moved != "" && id == by {
		ports = moved
	}
	return fmt.Sprintf("%s=%s:%s", id, id, ports)
}

// join starts the newcomer; it is up when it was admitted.
func (c *council) join() {
	var ctx context.Context
	ctx, c.leave = context.WithCancel(context.Background())
	c.opening = make(chan error, 1)
	c.net.Up(string(newcomer))
	opening, cfg := c.opening, c.config(newcomer)
	go func() {
		m, err := master.Open(ctx, cfg)
		if err == nil {
			c.mu.Lock()
			c.up[newcomer] = c.observe(newcomer, m)
			c.mu.Unlock()
		}
		opening <- err
	}()
}

// down takes any master away, wherever it is.
func (c *council) down(id event.MasterID) {
	if id == newcomer && c.opening != nil {
		c.net.Down(string(id))
		c.leave()
		if err := <-c.opening; err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("the newcomer gave up: %v", err)
		}
		c.opening = nil
	}
	c.crash(id)
}

// again starts a master that was taken away, on its directory.
func (c *council) again(id event.MasterID) {
	if id == newcomer {
		c.join()
		return
	}
	c.start(id)
}

// asked has any master answer, however often leaders change meanwhile.
func asked[T any](c *council, req any) (*T, error) {
	c.t.Helper()
	var last error
	for begun := time.Now(); time.Since(begun) < patience; time.Sleep(200 * time.Millisecond) {
		for _, id := range c.running() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			ok, err := transport.Call[T](ctx, c.pool, string(id)+":7002", req)
			cancel()
			var said *event.Error
			if err == nil || errors.As(err, &said) && slices.Contains([]event.Kind{event.KindNotFound, event.KindRefused}, said.Kind) {
				return ok, err
			}
			last = err
		}
	}
	c.t.Fatalf("%s: no answer: %v", transport.VariantName(req), last)
	return nil, nil
}

// writes shows that there is a quorum.
func (c *council) writes() {
	c.t.Helper()
	c.set("note", fmt.Sprint(time.Now().UnixNano()))
}

func (c *council) set(key, value string) {
	c.t.Helper()
	body, err := event.AppendBody(nil, event.SettingChanged{Key: key, Value: value})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := asked[transport.ProposeOk](c, &transport.Propose{Actor: "council", Type: event.TypeSettingChanged, Body: body}); err != nil {
		c.t.Fatal(err)
	}
}

// roll is the masters on record, "id suffrage", in order.
func roll(s *fsm.State) string {
	var all []string
	for m := range s.Masters() {
		all = append(all, string(m.ID)+" "+m.Suffrage)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// until waits until a master's state is as wanted.
func (c *council) until(what string, right func(*fsm.State) bool) {
	c.t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		wrong := ""
		for _, id := range c.running() {
			if m := c.member(id); m != nil && !right(m.View()) {
				wrong = fmt.Sprintf("%s has %s", id, roll(m.View()))
			}
		}
		if wrong == "" {
			return
		}
		if time.Since(begun) > patience {
			c.t.Fatalf("not %s: %s", what, wrong)
		}
	}
}

// voters waits until every running master has exactly these on record, each a voter and once.
func (c *council) voters(ids ...event.MasterID) {
	c.t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, string(id)+" voter")
	}
	slices.Sort(want)
	c.until("voters "+strings.Join(want, ", "), func(s *fsm.State) bool { return roll(s) == strings.Join(want, ", ") })
}

func (c *council) leads() event.MasterID {
	c.t.Helper()
	c.writes() // so there is one
	id, _, err := c.leader(0)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// known tells whether the newcomer is on record with a suffrage.
func known(suffrage string) func(*fsm.State) bool {
	return func(s *fsm.State) bool {
		m := s.Master(newcomer)
		return m != nil && (suffrage == "" || m.Suffrage == suffrage)
	}
}

// TestCrashesOfAChange takes the newcomer, or the leader, away at every step of joining, being promoted and being removed: it ends a
// voter once, or gone once, the grid takes commands all the time, and a removed replica stays out.
func TestCrashesOfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3)
		defer c.close()
		old := slices.Clone(c.ids[:3])
		c.voters(old...)
		for _, who := range []string{"newcomer", "leader"} {
			for _, at := range []string{"announced", "added", "learner", "voter", "removing 0s", "removing 1ms", "removing 3ms", "removing 20ms", "removed"} {
				crash := func() {
					victim := newcomer
					if who == "leader" {
						victim = c.leads()
					}
					c.down(victim)
					c.writes()
					c.again(victim)
				}
				c.join()
				if at == "announced" {
					time.Sleep(2 * time.Second)
					crash()
				}
				added, err := asked[transport.AddMasterOk](c, &transport.AddMaster{MasterID: newcomer})
				if err != nil {
					t.Fatalf("%s, %s: %v", who, at, err)
				}
				switch at {
				case "added":
					crash()
				case "learner":
					c.until("a learner", known(""))
					crash()
				case "voter":
					c.until("a voter", known("voter"))
					crash()
				}
				if again, err := asked[transport.AddMasterOk](c, &transport.AddMaster{MasterID: newcomer}); err != nil || again.ReplicaID != added.ReplicaID {
					t.Fatalf("%s, %s: added again %+v, %v; was %+v", who, at, again, err, added)
				}
				c.voters(append(old, newcomer)...)
				select {
				case err := <-c.opening:
					if err != nil {
						t.Fatalf("%s, %s: %v", who, at, err)
					}
				case <-time.After(patience):
					t.Fatalf("%s, %s: a voter, and not serving\n%s", who, at, c.tap.tail())
				}
				c.opening = nil
				c.remove(added.ReplicaID, who, at)
				c.voters(old...)
				t.Logf("%s, %s: joined and gone", who, at)
			}
		}
	})
}

// remove takes the newcomer's replica out, with a crash; it then says so, and does not start again.
func (c *council) remove(id event.ReplicaID, who, at string) {
	c.t.Helper()
	request := &transport.RemoveMaster{ID: string(id)}
	victim := newcomer
	if who == "leader" {
		victim = c.leads()
	}
	c.member(newcomer).stop() // that it cannot go on will be right
	<-c.member(newcomer).watching
	if delay, is := strings.CutPrefix(at, "removing "); is {
		after, err := time.ParseDuration(delay)
		if err != nil {
			c.t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			time.Sleep(after)
			c.down(victim)
		}()
		_, err = asked[transport.RemoveMasterOk](c, request)
		<-gone
		c.gone(err)
	} else {
		_, err := asked[transport.RemoveMasterOk](c, request)
		c.gone(err)
		if at == "removed" {
			c.down(victim)
		}
	}
	_, err := asked[transport.RemoveMasterOk](c, request)
	c.gone(err)
	c.writes()
	if victim != newcomer && c.member(victim) == nil {
		c.start(victim)
	}
	if m := c.take(newcomer); m != nil { // it asks when it has lost touch
		if err := c.ended(m.Master); !errors.Is(err, master.ErrRemoved) {
			c.t.Fatalf("%s, %s: it ends with %v", who, at, err)
		}
		c.states.forget(newcomer)
	}
	c.net.Up(string(newcomer))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := master.Open(ctx, c.config(newcomer))
	if err == nil { // it was away when it was removed, and finds out
		err = c.ended(m)
	}
	if !errors.Is(err, master.ErrRemoved) {
		c.t.Fatalf("%s, %s: started again it ends with %v", who, at, err)
	}
	if err := os.RemoveAll(filepath.Join(c.root, string(newcomer))); err != nil {
		c.t.Fatal(err)
	}
	c.readers[newcomer] = &replicaFeed{}
}

// ended waits until a master has ended by itself, closes it, and returns why.
func (c *council) ended(m *master.Master) error {
	select {
	case <-m.Done():
		return errors.Join(m.Err(), m.Close())
	case <-time.After(patience):
		return errors.Join(errors.New("it goes on"), m.Close())
	}
}

// gone takes the answer to a removal: done, or done before.
func (c *council) gone(err error) {
	c.t.Helper()
	if err != nil && !errors.Is(err, &event.Error{Kind: event.KindNotFound}) {
		c.t.Fatal(err)
	}
}

// TestCrashesOfAMove takes the moving master, or the leader, away while the others learn where it is: it is on record at its new
// place, as the replica it was, and they follow.
func TestCrashesOfAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 3)
		defer c.close()
		old := slices.Clone(c.ids[:3])
		c.voters(old...)
		port := 7100
		for _, who := range []string{"mover", "leader"} {
			for _, after := range []time.Duration{0, 2 * time.Millisecond, 50 * time.Millisecond, 1100 * time.Millisecond} {
				leader := c.leads()
				mover := old[(slices.Index(old, leader)+1)%3]
				replica := c.member(leader).View().Master(mover).ReplicaID
				c.down(mover)
				port += 10
				c.elsewhere[mover] = fmt.Sprintf("%d/%d/7002", port, port+1)
				c.start(mover)
				time.Sleep(after)
				victim := mover
				if who == "leader" {
					victim = leader
				}
				c.down(victim)
				c.writes()
				c.start(victim)
				at := fmt.Sprintf("%s:%d", mover, port)
				c.until("at "+at, func(s *fsm.State) bool {
					m := s.Master(mover)
					return m != nil && m.Address == at && m.ReplicaID == replica
				})
				c.voters(old...)
			}
		}
	})
}

// TestDeadMastersAreRemoved: of five masters two fall silent, one after the other: each is removed when its time has come, one at a
// time. Three stay, whoever else falls silent; those removed do not come back.
func TestDeadMastersAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCouncil(t, 5)
		defer c.close()
		all := slices.Clone(c.ids[:5])
		c.voters(all...)
		c.set(fsm.SettingMastersDead, "10m")
		leader := c.leads()
		rest := slices.DeleteFunc(slices.Clone(all), func(id event.MasterID) bool { return id == leader })
		live := func(gone ...event.MasterID) []event.MasterID {
			return slices.DeleteFunc(slices.Clone(all), func(id event.MasterID) bool { return slices.Contains(gone, id) })
		}
		c.down(rest[0])
		time.Sleep(6 * time.Minute)
		c.down(rest[1]) // a second one in the middle
		time.Sleep(3 * time.Minute)
		c.voters(all...)
		time.Sleep(90 * time.Second)
		c.voters(live(rest[0])...)
		time.Sleep(4 * time.Minute)
		c.voters(live(rest[0])...)
		time.Sleep(2 * time.Minute)
		c.voters(live(rest[0], rest[1])...)
		c.down(rest[2])
		time.Sleep(12 * time.Minute)
		c.voters(live(rest[0], rest[1])...)
		c.writes()
		c.start(rest[2])
		c.writes()
		for _, id := range rest[:2] {
			c.net.Up(string(id))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			m, err := master.Open(ctx, c.config(id))
			if err == nil {
				err = c.ended(m)
			}
			cancel()
			if !errors.Is(err, master.ErrRemoved) {
				t.Errorf("%s comes back: %v", id, err)
			}
		}
		c.voters(live(rest[0], rest[1])...)
	})
}
