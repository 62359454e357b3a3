package load

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// settings is how many settings feed writes: the grid allows 1,024 for all purposes.
const settings = 64

// feed commits events.
type feed struct {
	Options
	target Target
	lines  *lines
}

func newFeed(t Target, o Options) (Workload, error) {
	return &feed{Options: o, target: t}, t.validate()
}

// Prepare implements Workload.
func (f *feed) Prepare(ctx context.Context) (err error) {
	f.lines, err = dialMasters(ctx, f.target)
	return err
}

// Do implements Workload.
func (f *feed) Do(ctx context.Context, w *Worker) error {
	_, err := f.lines.of(w).Call(ctx, setting(w, f.Size))
	return err
}

// setting sets one of the settings to a new value. It carries no request id yet: transport gives it one.
func setting(w *Worker, size int) *transport.Propose {
	b, err := event.AppendBody(nil, event.SettingChanged{Key: fmt.Sprintf("bench.%d", w.Rand.IntN(settings)), Value: Text(w.Rand, min(size, 4<<10))})
	if err != nil {
		panic(err) // its two texts are within every bound
	}
	return &transport.Propose{Actor: "bench", Type: event.TypeSettingChanged, Body: b}
}

// Weight implements Workload.
func (*feed) Weight() int { return 1 }

// Close implements Workload.
func (f *feed) Close() error {
	if f.lines == nil {
		return nil
	}
	return f.lines.close()
}

// Registry reads what the masters keep, linearizable: in turn an agent's record and the shard map. A share of the requests writes as feed
// does.
type Registry struct {
	feed
	writes float64 // share, 0 to 1
	agents []event.AgentID
}

// NewRegistry makes one; the grid needs an agent. writes is the share of requests that commit an event, 0 to 1.
func NewRegistry(t Target, o Options, writes float64) (*Registry, error) {
	o, err := o.withDefaults()
	if err == nil {
		err = t.validate()
	}
	return &Registry{feed: feed{Options: o, target: t}, writes: writes}, err
}

// Prepare implements Workload.
func (r *Registry) Prepare(ctx context.Context) error {
	if err := r.feed.Prepare(ctx); err != nil {
		return err
	}
	list, err := transport.As[transport.ListAgentsOk](r.lines.to[0].Call(ctx, &transport.ListAgents{}))
	if err != nil {
		return fmt.Errorf("list the agents: %w", err)
	}
	if len(list.Agents) == 0 {
		return &event.Error{Kind: event.KindInvalid, Op: "prepare registry", Message: "the grid has no agent whose record could be read"}
	}
	for _, a := range list.Agents {
		r.agents = append(r.agents, a.AgentID)
	}
	return nil
}

// Do implements Workload.
func (r *Registry) Do(ctx context.Context, w *Worker) error {
	if r.writes > 0 && w.Rand.Float64() < r.writes {
		return r.feed.Do(ctx, w)
	}
	var req any = &transport.GetShardMap{}
	if w.N%2 == 0 {
		req = &transport.GetAgent{AgentID: r.agents[w.Rand.IntN(len(r.agents))]}
	}
	_, err := r.lines.of(w).Call(ctx, req)
	return err
}
