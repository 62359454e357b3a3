package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	clients  = 8
	emitters = 2 // of the clients
	opLimit  = 8 * time.Second
)

func clientHost(i int) string { return fmt.Sprintf("client-%d", i) }

// load is the clients of a world. They stop between two commands while somebody holds all their slots.
type load struct {
	w     *world
	slots chan struct{}
	stop  context.CancelFunc
	ctx   context.Context
	wg    sync.WaitGroup
}

// startLoad lets the clients run, against the masters or what is given in their place.
func (w *world) startLoad(addrs ...string) *load {
	l := &load{w: w, slots: make(chan struct{}, clients)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for i := range clients {
		c := &client{load: l, number: i, rand: rand.New(rand.NewPCG(w.seed, uint64(i)+100)), agents: map[event.AgentID]*registry{}}
		c.pool = transport.NewPool(transport.PoolConfig{Network: w.net.Host(clientHost(i))})
		for k := range w.peers { // each begins elsewhere
			c.addrs = append(c.addrs, w.peers[(i+k)%len(w.peers)].Grid)
		}
		if len(addrs) > 0 {
			c.addrs = addrs
		}
		c.masters = transport.NewMasters(c.addrs, c.pool)
		next := c.command
		if i < emitters && w.estates == 0 { // real nodes would share their shards with those of emitters
			e := &emitter{client: c, agent: event.AgentID(fmt.Sprintf("emitter-%d", i))}
			next = e.emit
		}
		l.wg.Go(func() { c.run(next) })
	}
	return l
}

// pause waits until no command is under way, and keeps it so until resume.
func (l *load) pause() (resume func()) {
	for range clients {
		l.slots <- struct{}{}
	}
	return func() {
		for range clients {
			<-l.slots
		}
	}
}

func (l *load) close() {
	l.stop()
	l.wg.Wait()
}

// client sends one command after the other, to one master or, retrying as the library does, to any.
type client struct {
	*load
	number  int
	rand    *rand.Rand
	pool    *transport.Pool
	addrs   []string
	masters *transport.Masters
	sent    int
	seen    uint64 // the highest seq it was told
	agents  map[event.AgentID]*registry
}

// registry is one agent as its one client knows it: its versions are those that were acknowledged last, or any whose outcome is
// open, for what was held up on the way may arrive behind what was sent later.
type registry struct {
	acked, tried int
	open         map[int]bool
}

func (c *client) run(next func(ctx context.Context)) {
	defer func() {
		if err := c.pool.Close(); err != nil {
			c.w.fault(err)
		}
	}()
	for c.ctx.Err() == nil {
		select {
		case c.slots <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), opLimit)
		next(ctx)
		cancel()
		<-c.slots
		think := time.NewTimer(time.Duration((20+c.rand.IntN(160))*max(1, c.w.pace)) * time.Millisecond)
		select {
		case <-think.C:
		case <-c.ctx.Done():
			think.Stop()
		}
	}
}

// command is a client's next one.
func (c *client) command(ctx context.Context) {
	c.sent++
	switch n := c.rand.IntN(100); {
	case n < 40:
		c.setting(ctx)
	case n < 60:
		c.associationType(ctx)
	case n < 75:
		c.register(ctx)
	default:
		c.read(ctx)
	}
}

// verdict is what an error says about a command.
func verdict(err error) outcome {
	var e *event.Error
	switch {
	case err == nil:
		return acked
	case !errors.As(err, &e):
		return open
	}
	switch e.Kind {
	case event.KindUnknownOutcome, event.KindDeadline, event.KindInternal, event.KindExpired:
		return open
	}
	return failed
}

// refusals are the errors that a run without defects may give.
var refusals = []event.Kind{event.KindUnavailable, event.KindNotLeader, event.KindBusy, event.KindUnknownOutcome, event.KindDeadline}

// call sends a request that carries its own protection against being done twice, and repeats it as long as its outcome is open.
func (c *client) call(ctx context.Context, req any) (reply any, did outcome) {
	if c.number%2 == 0 {
		reply, err := c.masters.Call(ctx, req)
		c.expected(req, err)
		return reply, verdict(err)
	}
	did = failed
	for attempt := range 4 {
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		reply, err := c.pool.Call(limited, c.addrs[attempt%len(c.addrs)], req)
		cancel()
		c.expected(req, err)
		switch verdict(err) {
		case acked:
			return reply, acked
		case open:
			did = open // for good: what comes later says nothing about this attempt
		}
	}
	return nil, did
}

func (c *client) expected(req any, err error) {
	var e *event.Error
	if errors.As(err, &e) && !slices.Contains(refusals, e.Kind) {
		c.w.faultf("%s of %s: %v (%s)", transport.VariantName(req), clientHost(c.number), err, e.Kind)
	}
}

func (c *client) token() string { return fmt.Sprintf("c%d-%d", c.number, c.sent) }

func (c *client) setting(ctx context.Context) {
	token := c.token()
	key := fmt.Sprintf("key-%d", c.rand.IntN(40))
	body, err := event.AppendBody(nil, event.SettingChanged{Key: key, Value: token})
	if err != nil {
		c.w.fault(err)
		return
	}
	req := &transport.Propose{Issued: time.Now().UnixMicro(), Actor: clientHost(c.number), Type: event.TypeSettingChanged, Body: body}
	for i := range req.RequestID {
		req.RequestID[i] = byte(c.rand.Uint32())
	}
	c.w.ledger.begin(token)
	reply, did := c.call(ctx, req)
	done := claim{outcome: did}
	if did == acked {
		done.seq = reply.(*transport.ProposeOk).Seq
		c.seen = max(c.seen, done.seq)
	}
	c.w.ledger.settle(token, done)
}

func (c *client) associationType(ctx context.Context) {
	token := c.token()
	c.w.ledger.begin(token)
	reply, did := c.call(ctx, &transport.AssociationType{Name: token})
	done := claim{outcome: did}
	if did == acked {
		done.value = uint64(reply.(*transport.AssociationTypeOk).Number)
	}
	c.w.ledger.settle(token, done)
}

// register renews an agent's record, once: nothing protects a registration that is sent twice from being recorded twice.
func (c *client) register(ctx context.Context) {
	id := event.AgentID(fmt.Sprintf("agent-%d-%d", c.number, c.rand.IntN(3)))
	r := c.agents[id]
	if r == nil {
		r = &registry{open: map[int]bool{}}
		c.agents[id] = r
	}
	r.tried++
	token := fmt.Sprintf("%s v%d", id, r.tried)
	c.w.ledger.begin(token)
	req := &transport.RegisterAgent{AgentID: id, Hostname: "h", Platform: "sim", AgentEndpoint: "h:1", Version: token}
	ok, err := transport.Call[transport.RegisterAgentOk](ctx, c.pool, c.addrs[0], req)
	c.expected(req, err)
	done := claim{outcome: verdict(err)}
	switch done.outcome {
	case acked:
		done.seq, r.acked = ok.Seq, r.tried
		c.seen = max(c.seen, ok.Seq)
	case open:
		r.open[r.tried] = true
	case failed: // must never be read
	}
	c.w.ledger.settle(token, done)
}

// read is linearizable: it sees everything that anybody was told before it began, and never less than before.
func (c *client) read(ctx context.Context) {
	told := max(c.w.ledger.told(), c.seen)
	id := event.AgentID(fmt.Sprintf("agent-%d-%d", c.number, c.rand.IntN(3)))
	r := c.agents[id]
	if r == nil || r.acked == 0 {
		return
	}
	at := c.addrs[c.rand.IntN(len(c.addrs))]
	got, err := transport.Call[transport.GetAgentOk](ctx, c.pool, at, &transport.GetAgent{AgentID: id})
	if err != nil {
		c.expected(&transport.GetAgent{}, err)
		return
	}
	var version int
	if _, err := fmt.Sscanf(got.Agent.Version, string(id)+" v%d", &version); err != nil {
		c.w.faultf("%s reads version %q of %s: %v", clientHost(c.number), got.Agent.Version, id, err)
		return
	}
	if got.Seq < told {
		c.w.faultf("%s read event %d at %s after event %d was acknowledged", clientHost(c.number), got.Seq, at, told)
	}
	if version != r.acked && !r.open[version] {
		c.w.faultf("%s reads version %d of %s at %s; %d was acknowledged last, open are %v", clientHost(c.number), version, id, at, r.acked, r.open)
	}
	c.seen = max(c.seen, got.Seq)
	c.w.reads.Add(1)
}

// emitter is an agent as the masters see one: it registers, says that it lives, and reports what its node does, numbered without
// gaps; what is not acknowledged is sent again.
type emitter struct {
	*client
	agent event.AgentID
	store string
	node  event.NodeID
	next  uint64 // the first number that is not acknowledged
	begun uint64 // the last number that was ever sent
	beat  time.Time
}

func emitterToken(agent event.AgentID, number uint64) string {
	return fmt.Sprintf("%s #%d", agent, number)
}

// emit takes the emitter's next step.
func (e *emitter) emit(ctx context.Context) {
	e.sent++
	switch {
	case e.store == "":
		e.enrol(ctx)
		return
	case time.Since(e.beat) > 5*time.Second:
		_, err := e.masters.Call(ctx, &transport.Heartbeat{AgentID: e.agent, StorageNodeCount: 1})
		if e.expected(&transport.Heartbeat{}, err); err == nil {
			e.beat = time.Now()
		}
		return
	case e.node == "":
		e.findNode(ctx)
		return
	}
	e.report(ctx)
}

func (e *emitter) enrol(ctx context.Context) {
	store := fmt.Sprintf("%032x", e.number+1)
	token := fmt.Sprintf("%s enrolment %d", e.agent, e.sent)
	e.w.ledger.begin(token)
	req := &transport.RegisterAgent{AgentID: e.agent, Hostname: "h", Platform: "sim", AgentEndpoint: "h:1", Version: token, MaxStorageNodes: 1, StoreID: store}
	ok, err := transport.Call[transport.RegisterAgentOk](ctx, e.pool, e.addrs[0], req)
	e.expected(req, err)
	done := claim{outcome: verdict(err)}
	if err == nil {
		done.seq, e.store, e.beat = ok.Seq, store, time.Now()
	}
	e.w.ledger.settle(token, done)
}

func (e *emitter) findNode(ctx context.Context) {
	reply, err := e.masters.Call(ctx, &transport.ListNodes{})
	if e.expected(&transport.ListNodes{}, err); err != nil {
		return
	}
	for _, n := range reply.(*transport.ListNodesOk).Nodes {
		if n.AgentID == e.agent {
			e.node, e.next = n.NodeID, 1
		}
	}
}

// report sends a few events from the first that is not acknowledged; never other ones under the same numbers.
func (e *emitter) report(ctx context.Context) {
	req := &transport.EmitEvents{Emitter: string(e.agent) + "." + e.store, First: e.next}
	last := max(e.begun, e.next+uint64(e.rand.IntN(3)))
	for n := e.next; n <= last; n++ {
		body := e.body(n)
		b, err := event.AppendBody(nil, body)
		if err != nil {
			e.w.fault(err)
			return
		}
		req.Events = append(req.Events, transport.EmittedEvent{Type: body.Type(), Body: b})
		if n > e.begun {
			e.w.ledger.begin(emitterToken(e.agent, n))
			e.begun = n
		}
	}
	reply, did := e.call(ctx, req)
	if did != acked {
		return // sent again, so that it ends as acknowledged or stays open
	}
	ok := reply.(*transport.EmitEventsOk)
	if ok.Refused > 0 {
		e.w.faultf("%d of %s's events behind %d were refused", ok.Refused, e.agent, e.next)
	}
	for ; e.next <= ok.Through; e.next++ {
		e.w.ledger.settle(emitterToken(e.agent, e.next), claim{outcome: acked})
	}
}

// body is the emitter's event number n: the node starts, crashes, starts again.
func (e *emitter) body(n uint64) event.Body {
	start := (n + 1) / 2
	switch {
	case n == 1:
		return event.SpawnSucceeded{NodeID: e.node, AgentID: e.agent, PID: 1, Port: 1, Endpoint: "h:2", StoreID: e.store, Start: start}
	case n%2 == 0:
		return event.NodeCrashed{NodeID: e.node, AgentID: e.agent, Signal: "SIGKILL", Start: n / 2}
	}
	return event.NodeRestarted{NodeID: e.node, AgentID: e.agent, RestartCount: uint32(start), NewPID: uint32(start), Port: 1, Endpoint: "h:2", Start: start}
}
