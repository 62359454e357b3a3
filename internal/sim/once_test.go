package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// trap springs at one master when it has applied a command and has not answered it.
type trap struct {
	mu     sync.Mutex
	match  func(*event.Command) bool  // guarded by mu; nil: nothing is watched
	at     event.MasterID             // guarded by mu
	spring func()                     // guarded by mu; nil: it has sprung
	first  fsm.Answer                 // guarded by mu; what Apply said when it sprang
	copies map[string]event.RequestID // guarded by mu; matching commands in the log, by their place
}

// set arms the trap.
func (t *trap) set(at event.MasterID, match func(*event.Command) bool, spring func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.match, t.at, t.spring, t.first, t.copies = match, at, spring, fsm.Answer{}, map[string]event.RequestID{}
}

// sprung is the first answer, and the copies of the command that are in the log; ok tells whether it sprang.
func (t *trap) sprung() (first fsm.Answer, copies []event.RequestID, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range t.copies {
		copies = append(copies, id)
	}
	return t.first, copies, t.match != nil && t.spring == nil
}

// applied sees what a master has applied.
func (t *trap) applied(id event.MasterID, e raftgroup.Entry, answers []any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, b := range e.Commands {
		c, err := event.DecodeCommand(b)
		if err != nil || t.match == nil || !t.match(c) {
			continue
		}
		t.copies[fmt.Sprintf("%d.%d", e.Index, i)] = c.RequestID
		if answer, is := answers[i].(fsm.Answer); is && id == t.at && t.spring != nil {
			t.first = answer
			t.spring()
			t.spring = nil
		}
	}
}

// trapped is a state machine with a trap behind it.
type trapped struct {
	raftgroup.FSM
	id   event.MasterID
	trap *trap
}

// Apply implements raftgroup.FSM.
func (m trapped) Apply(entries []raftgroup.Entry) [][]any {
	logged := slices.Clone(entries) // as they stand in the log, whatever a broken machine makes of them
	answers := m.FSM.Apply(entries)
	for k := range answers {
		m.trap.applied(m.id, logged[k], answers[k])
	}
	return answers
}

// loss is a way to lose the answer to a command that is applied.
type loss struct {
	name   string
	via    string // whom the client asks first: "leader" or "follower"
	spring func(o *once, via event.MasterID) (dead event.MasterID)
}

const onceHost = "client-0"

var losses = []loss{
	{"the connection is cut", "leader", func(o *once, via event.MasterID) event.MasterID {
		o.w.net.SetLink(string(via), onceHost, transport.Link{Refuse: true})
		return ""
	}},
	{"the answer is swallowed", "leader", func(o *once, via event.MasterID) event.MasterID {
		o.w.net.SetLink(string(via), onceHost, transport.Link{Cut: true})
		return ""
	}},
	{"the leader dies", "leader", func(o *once, via event.MasterID) event.MasterID {
		o.w.net.Down(string(via))
		return via
	}},
	{"the follower that passed it on dies", "follower", func(o *once, via event.MasterID) event.MasterID {
		o.w.net.Down(string(via))
		return via
	}},
}

// once is a client of a grid whose every first answer is lost. It calls as programs do: transport.Masters makes the request id and
// goes to another master by itself.
type once struct {
	w       *world
	trap    *trap
	pool    *transport.Pool
	emitter *emitter
	sent    uint64 // the emitter's numbers
	faults  []error
}

// errand is one command and how to recognise it: in the log, its event, and the same answer.
type errand struct {
	name    string
	request any
	command func(*event.Command) bool
	event   func(*event.Envelope) bool
	told    func(reply any, first fsm.Answer) bool
	one     bool // all its copies carry one request id
	known   bool // a master that sees it in its state does not propose it again
}

// TestOnce loses the answer to each kind of command, in each way, between Apply and whoever waits for it: the command takes effect once
// and the client, which repeats it by itself, gets the first answer (safety S5).
func TestOnce(t *testing.T) {
	for _, err := range runOnce(t, nil) {
		t.Error(err)
	}
}

// TestOnceIsSeen: a grid that knows no request again is caught by what TestOnce looks at.
func TestOnceIsSeen(t *testing.T) {
	said := fmt.Sprint(errors.Join(runOnce(t, forgetful)...))
	for _, l := range losses {
		for _, command := range []string{"setting", "registration"} {
			if want := command + ", " + l.name + ": it took effect 2 times"; !strings.Contains(said, want) {
				t.Errorf("not seen: %s; seen were\n%s", want, said)
			}
		}
	}
}

func runOnce(t *testing.T, broken func(event.MasterID, raftgroup.FSM) raftgroup.FSM) (faults []error) {
	synctest.Test(t, func(t *testing.T) {
		o := &once{trap: &trap{}}
		o.w = newWorld(t, scenario{seed: 21, masters: 3, machine: func(id event.MasterID, real raftgroup.FSM) raftgroup.FSM {
			if broken != nil {
				real = broken(id, real)
			}
			return trapped{real, id, o.trap}
		}})
		defer o.w.close()
		o.pool = transport.NewPool(transport.PoolConfig{Network: o.w.net.Host(onceHost)})
		defer func() { o.w.fault(o.pool.Close()) }()
		o.enrol()
		for round, l := range losses {
			for _, e := range o.errands(t, round) {
				o.lose(l, e)
			}
		}
		faults = append(o.faults, o.w.broken()...)
	})
	return faults
}

func (o *once) faultf(format string, args ...any) {
	o.faults = append(o.faults, fmt.Errorf(format, args...))
}

// enrol makes an emitter that has a node.
func (o *once) enrol() {
	o.emitter = &emitter{client: &client{load: &load{w: o.w}, pool: o.pool, masters: o.masters(o.w.ids), addrs: []string{o.w.peers[0].Grid}}, agent: "emitter-0"}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for o.emitter.node == "" && ctx.Err() == nil {
		changed := o.w.member(o.w.ids[0]).Changed()
		if o.emitter.store == "" {
			o.emitter.enrol(ctx)
		} else if o.emitter.findNode(ctx); o.emitter.node == "" {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// masters calls the masters beginning with the first given.
func (o *once) masters(ids []event.MasterID) *transport.Masters {
	var addrs []string
	for _, id := range ids {
		p, _ := o.w.peers.Find(id)
		addrs = append(addrs, p.Grid)
	}
	return transport.NewMasters(addrs, o.pool)
}

// errands are the commands of one round, each with names of its own.
func (o *once) errands(t *testing.T, round int) []errand {
	packed := func(body event.Body) []byte {
		b, err := event.AppendBody(nil, body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, agent, name := fmt.Sprintf("once-%d", round), event.AgentID(fmt.Sprintf("late-%d", round)), fmt.Sprintf("type-%d", round)
	o.sent++
	report := o.emitter.body(o.sent)
	number := o.sent
	return []errand{
		{name: "setting", one: true, request: &transport.Propose{Actor: "operator", Type: event.TypeSettingChanged, Body: packed(event.SettingChanged{Key: key, Value: "v"})},
			command: func(c *event.Command) bool { b, is := c.Body.(event.SettingChanged); return is && b.Key == key },
			event:   func(e *event.Envelope) bool { b, is := e.Body.(event.SettingChanged); return is && b.Key == key },
			told:    func(r any, first fsm.Answer) bool { return r.(*transport.ProposeOk).Seq == first.Seq }},
		{name: "registration", one: true, request: &transport.RegisterAgent{AgentID: agent, Hostname: "h", Platform: "sim", AgentEndpoint: "h:1", Version: "1"},
			command: func(c *event.Command) bool { b, is := c.Body.(event.AgentRegistered); return is && b.AgentID == agent },
			event:   func(e *event.Envelope) bool { b, is := e.Body.(event.AgentRegistered); return is && b.AgentID == agent },
			told:    func(r any, first fsm.Answer) bool { return r.(*transport.RegisterAgentOk).Seq == first.Seq }},
		{name: "unregistration", one: true, request: &transport.UnregisterAgent{AgentID: agent},
			command: func(c *event.Command) bool {
				b, is := c.Body.(event.AgentUnregistered)
				return is && b.AgentID == agent
			},
			event: func(e *event.Envelope) bool {
				b, is := e.Body.(event.AgentUnregistered)
				return is && b.AgentID == agent
			},
			told: func(r any, first fsm.Answer) bool { return r.(*transport.UnregisterAgentOk).Seq == first.Seq }},
		{name: "association type", known: true, request: &transport.AssociationType{Name: name},
			command: func(c *event.Command) bool { b, is := c.Body.(event.AssociationTypeAdded); return is && b.Name == name },
			event: func(e *event.Envelope) bool {
				b, is := e.Body.(event.AssociationTypeAdded)
				return is && b.Name == name
			},
			told: func(r any, first fsm.Answer) bool {
				return uint64(r.(*transport.AssociationTypeOk).Number) == first.Value
			}},
		{name: "emitted event", request: &transport.EmitEvents{Emitter: string(o.emitter.agent) + "." + o.emitter.store, First: number,
			Events: []transport.EmittedEvent{{Type: report.Type(), Body: packed(report)}}},
			command: func(c *event.Command) bool { return c.Emitter != "" && c.Body == report && c.EmitterSeq == number },
			event:   func(e *event.Envelope) bool { return e.Body == report },
			told: func(r any, _ fsm.Answer) bool {
				ok := r.(*transport.EmitEventsOk)
				return ok.Through == number && ok.Refused == 0
			}},
	}
}

// lose sends one command whose first answer is lost, and looks at what became of it.
func (o *once) lose(l loss, e errand) {
	leader, _, err := o.w.leader(0)
	if err != nil {
		o.faultf("%s, %s: %w", e.name, l.name, err)
		return
	}
	order := slices.DeleteFunc(slices.Clone(o.w.ids), func(id event.MasterID) bool { return id == leader })
	if l.via == "leader" {
		order = slices.Insert(order, 0, leader)
	} else {
		order = append(order, leader)
	}
	dead := make(chan event.MasterID, 1)
	o.trap.set(leader, e.command, func() { dead <- l.spring(o, order[0]) })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var burial sync.WaitGroup
	burial.Go(func() {
		select {
		case id := <-dead:
			if id != "" {
				o.w.crash(id)
			}
		case <-ctx.Done():
		}
	})
	reply, err := o.masters(order).Call(ctx, e.request)
	first, copies, sprung := o.trap.sprung()
	if !sprung {
		cancel()
	}
	burial.Wait()
	o.w.heal()
	o.w.restart()
	switch {
	case !sprung:
		o.faultf("%s, %s: it was not applied at %s, the leader: %v", e.name, l.name, leader, err)
	case err != nil:
		o.faultf("%s, %s: %w; first it was answered with %+v", e.name, l.name, err, first)
	case first.Err != nil || !e.told(reply, first):
		o.faultf("%s, %s: answered with %+v, first with %+v", e.name, l.name, reply, first)
	case len(copies) < 2 && !e.known:
		o.faultf("%s, %s: it is %d times in the log, so nothing was repeated", e.name, l.name, len(copies))
	case e.one && len(slices.Compact(slices.SortedFunc(slices.Values(copies), compareIDs))) != 1:
		o.faultf("%s, %s: it came under the ids %v", e.name, l.name, copies)
	}
	if n := o.effects(ctx, e); n != 1 {
		o.faultf("%s, %s: it took effect %d times", e.name, l.name, n)
	}
}

func compareIDs(a, b event.RequestID) int { return slices.Compare(a[:], b[:]) }

// effects counts a command's events in the feed.
func (o *once) effects(ctx context.Context, e errand) (n int) {
	reply, err := transport.As[transport.EventsOk](o.masters(o.w.ids).Call(ctx, &transport.ListEvents{From: 1, Limit: 10_000}))
	if err != nil {
		o.faultf("%s: %w", e.name, err)
		return 1
	}
	for _, b := range reply.Events {
		envelope, err := event.DecodeEnvelope(b)
		if err != nil {
			o.faultf("%s: %w", e.name, err)
			continue
		}
		if e.event(envelope) {
			n++
		}
	}
	return n
}
