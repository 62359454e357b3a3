package sim

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/agent"
	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// agents is how many real ones a world has. They are fewer than a shard has replicas, so no shards are made.
const agents = 2

// agentHost is an address of this machine: an agent tries its nodes' ports on it for real.
func agentHost(i int) string { return fmt.Sprintf("127.0.0.%d", 21+i) }

// homestead is an agent as gridagent assembles it, on a platform in this process whose nodes live for a while and end by themselves.
// What its nodes did must be in the feed once, whatever became of agent and masters meanwhile.
type homestead struct {
	w    *world
	id   event.AgentID
	host string
	run  *agent.Agent // nil: closed

	mu     sync.Mutex
	rand   *rand.Rand                // guarded by mu
	procs  map[platform.Ref]*process // guarded by mu
	starts uint64                    // guarded by mu; of its one node
	tokens []string                  // guarded by mu; of what the agent must report
	calm   chan struct{}             // closed: nodes go on living
	wg     sync.WaitGroup
}

// process is one running node.
type process struct {
	number uint64 // of its start
	ready  platform.Ready
	end    func(signal string)
	gone   chan struct{} // closed when it has ended
	exit   platform.Exit // set before gone is closed
}

var _ agent.Platform = (*homestead)(nil)

func (w *world) startAgents() {
	for i := range agents {
		h := &homestead{w: w, id: event.AgentID(fmt.Sprintf("keeper-%d", i)), host: agentHost(i), rand: rand.New(rand.NewPCG(w.seed, uint64(i)+200)),
			procs: map[platform.Ref]*process{}, calm: make(chan struct{})}
		w.homesteads = append(w.homesteads, h)
		h.open()
	}
}

func (h *homestead) open() {
	cfg := agent.DefaultConfig()
	cfg.ID, cfg.Data, cfg.Listen = h.id, filepath.Join(h.w.root, string(h.id)), h.host+":8001"
	for _, p := range h.w.peers {
		cfg.Masters = append(cfg.Masters, p.Grid)
	}
	cfg.NodePorts = agent.PortRange{From: 42001, To: 42099}
	cfg.Platform, cfg.GridNode, cfg.Network = h, "gridnode", h.w.net.Host(h.host)
	cfg.Log = slog.New(h.w.tap.of(string(h.id)))
	a, err := agent.Open(cfg)
	if err != nil {
		h.w.t.Fatalf("open %s: %v", h.id, err)
	}
	h.run = a
}

// reopen ends the agent, whose nodes go on, and starts it again.
func (h *homestead) reopen() {
	h.w.fault(h.run.Close())
	h.open()
}

// close ends the agent and then its nodes.
func (h *homestead) close() {
	h.w.fault(h.run.Close())
	h.mu.Lock()
	for _, p := range h.procs {
		p.end("SIGKILL")
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Start implements agent.Platform.
func (h *homestead) Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error) {
	at := slices.Index(spec.Args, "--listen")
	if at < 0 || at+1 >= len(spec.Args) {
		return nil, fmt.Errorf("no --listen in %s", strings.Join(spec.Args, " "))
	}
	h.mu.Lock()
	h.starts++
	number, life := h.starts, time.Duration(15+h.rand.IntN(30))*time.Second
	h.mu.Unlock()
	ref := platform.Ref(fmt.Sprintf("%s-%d", h.id, number))
	if err := record(ref, int(number)); err != nil {
		return nil, err
	}
	p := &process{number: number, gone: make(chan struct{}), ready: platform.Ready{Endpoint: spec.Args[at+1], StoreID: fmt.Sprintf("%032x", h.host)}}
	signals := make(chan string, 1)
	p.end = func(signal string) {
		select {
		case signals <- signal:
		default: // it has one already
		}
	}
	h.mu.Lock()
	h.procs[ref] = p
	h.tokens = append(h.tokens, h.claim(2*number-1))
	h.mu.Unlock()
	h.wg.Go(func() { h.live(p, life, signals) })
	return h.watch(ref, p), nil
}

// claim is what the agent must report from now on.
func (h *homestead) claim(number uint64) string {
	token := emitterToken(h.id, number)
	h.w.ledger.begin(token)
	return token
}

// live is a node's life: it ends by itself, unless the world has become calm.
func (h *homestead) live(p *process, life time.Duration, signals <-chan string) {
	timer := time.NewTimer(life)
	defer timer.Stop()
	defer close(p.gone)
	select {
	case p.exit.Signal = <-signals:
		return
	case <-h.calm:
	case <-timer.C:
		h.mu.Lock()
		defer h.mu.Unlock()
		p.exit.Signal = "SIGSEGV"
		h.tokens = append(h.tokens, h.claim(2*p.number))
		return
	}
	p.exit.Signal = <-signals
}

// Adopt implements agent.Platform.
func (h *homestead) Adopt(ref platform.Ref, _ platform.Spec) (*platform.Instance, error) {
	h.mu.Lock()
	p := h.procs[ref]
	h.mu.Unlock()
	if p == nil {
		return nil, platform.ErrGone
	}
	select {
	case <-p.gone:
		return nil, platform.ErrGone
	default:
		return h.watch(ref, p), nil
	}
}

// watch tells an agent about a node.
func (h *homestead) watch(ref platform.Ref, p *process) *platform.Instance {
	notices, left, done := make(chan platform.Notice, 2), make(chan struct{}), make(chan struct{})
	notices <- platform.Notice{Ready: &p.ready}
	h.wg.Go(func() {
		defer close(done)
		defer close(notices)
		select {
		case <-p.gone:
			notices <- platform.Notice{Exit: &p.exit}
		case <-left:
		}
	})
	return &platform.Instance{Ref: ref, PID: int(p.number), Notices: notices, Handle: handle{p, sync.OnceFunc(func() { close(left) }), done}}
}

type handle struct {
	*process
	leave func()
	done  <-chan struct{}
}

// Terminate implements platform.Handle.
func (h handle) Terminate() error { h.end("SIGTERM"); return nil }

// Kill implements platform.Handle.
func (h handle) Kill() error { h.end("SIGKILL"); return nil }

// Close implements platform.Handle.
func (h handle) Close() { h.leave(); <-h.done }

// reported waits until the masters have taken everything that the agent had to say; no node ends any more.
func (h *homestead) reported() error {
	select {
	case <-h.calm:
	default:
		close(h.calm)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	m := h.w.member(h.w.running()[0])
	for {
		changed := m.Changed()
		h.mu.Lock()
		tokens := slices.Clone(h.tokens)
		h.mu.Unlock()
		taken := uint64(0)
		if a := m.View().Agent(h.id); a != nil {
			taken = m.View().Emitter(string(h.id) + "." + a.StoreID)
		}
		if len(tokens) > 0 && taken >= uint64(len(tokens)) {
			for _, token := range tokens {
				h.w.ledger.settle(token, claim{outcome: acked})
			}
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("%s had %d things to report, the masters have taken %d after %s", h.id, len(tokens), taken, patience)
		}
	}
}
