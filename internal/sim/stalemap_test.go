package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// atlas is every shard map of a grid since it began to watch.
type atlas struct {
	mu      sync.Mutex
	maps    []*shardmap.Map // guarded by mu; in their order
	changed chan struct{}   // guarded by mu; closed at the next map
}

// watch collects until ctx ends.
func (a *atlas) watch(ctx context.Context, masters *transport.Masters) error {
	return masters.Stream(ctx, func() any { return &transport.WatchShardMap{} }, func(msg any) error {
		m, is := msg.(*transport.ShardMapOk)
		if !is {
			return fmt.Errorf("a watch of the map brings %T", msg)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if n := len(a.maps); n == 0 || a.maps[n-1].Epoch.Less(m.Map.Epoch) {
			a.maps = append(a.maps, &m.Map)
			close(a.changed)
			a.changed = make(chan struct{})
		}
		return nil
	})
}

func (a *atlas) size() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.maps)
}

// behind is a client's source of maps that are old: it offers what it has until the client asks for a newer one, and then the
// next one that is. By itself it only follows so that it is no more than lag maps behind the newest.
type behind struct {
	*atlas
	lag int

	at   int // guarded by atlas.mu; the map that is offered
	most int // guarded by atlas.mu; the maps that it was behind, at most
}

// Map implements client.MapSource.
func (b *behind) Map() *shardmap.Map {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.maps) == 0 {
		return &shardmap.Map{}
	}
	newest := len(b.maps) - 1
	b.at = max(b.at, newest-b.lag)
	b.most = max(b.most, newest-b.at)
	return b.maps[b.at]
}

// WaitNewer implements client.MapSource.
func (b *behind) WaitNewer(ctx context.Context, epoch event.Position) error {
	for {
		b.mu.Lock()
		for b.at < len(b.maps)-1 && !epoch.Less(b.maps[b.at].Epoch) {
			b.at++
		}
		there, changed := len(b.maps) > 0 && epoch.Less(b.maps[b.at].Epoch), b.changed
		b.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// straggler is a client with old maps that writes its own concept and reads all of them.
type straggler struct {
	*behind
	client *sdk.Client
	own    *register
}

func (d *district) straggler(a *atlas, lag int) *straggler {
	d.world.t.Helper()
	id := ""
	for i := 0; ; i++ { // of the shard whose voters are replaced
		id = fmt.Sprintf("behind-%d-%d", lag, i)
		if s, err := d.view().ShardMap().Shard(id); err == nil && s.ID == moved {
			break
		}
	}
	s := &straggler{behind: &behind{atlas: a, lag: lag}, own: newRegister(id)}
	var err error
	// Without masters: nobody helps it to the shard but the nodes that it finds.
	s.client, err = sdk.New(sdk.Config{Map: s, Network: d.net.Host(clientHost(0)), Log: slog.New(d.tap.of("client")),
		Txn: func(context.Context, *transport.Txn) (*transport.TxnOk, error) {
			return nil, errors.New("no transactions here")
		}})
	if err != nil {
		d.world.t.Fatal(err)
	}
	return s
}

// work writes and reads until stop; what is acknowledged is checked by every later read of everybody.
func (s *straggler) work(t *testing.T, all []*straggler, stop <-chan struct{}) (answers int) {
	for ctx := context.Background(); ; {
		select {
		case <-stop:
			return answers
		case <-time.After(200 * time.Millisecond):
		}
		version, content := s.own.begin("")
		err := until(ctx, func(ctx context.Context) error {
			return s.client.LearnConcept(ctx, &transport.LearnConcept{ConceptID: s.own.id, Content: content, Strength: 1, Confidence: 1})
		})
		if err != nil {
			t.Errorf("%d maps behind, write: %v", s.lag, err)
			return answers
		}
		s.own.settle(version, acked)
		for _, other := range all {
			var h horizon
			var got *transport.QueryConceptOk
			err := until(ctx, func(ctx context.Context) (err error) {
				h = other.own.horizon()
				got, err = s.client.Concept(ctx, other.own.id)
				return err
			})
			if err == nil {
				err = other.own.saw(h, got.Found, got.Content)
				answers++
			}
			if err != nil {
				t.Errorf("%d maps behind: %v", s.lag, err)
			}
		}
	}
}

// The shard whose voters are replaced, and the one whose changes only make maps.
const moved, restless = event.ShardID("shard-0"), event.ShardID("shard-1")

// TestStaleClientsGetRightAnswers: every voter of a shard is replaced, one by one, until none of the first is left, while clients whose
// maps are 1, 10 and, with GRID_SIM_LOSSES, 100 behind write and read: every answer holds what was acknowledged before.
func TestStaleClientsGetRightAnswers(t *testing.T) {
	inDistrict(t, 46, 6, func(d *district) {
		a := &atlas{changed: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			d.fault(a.watch(ctx, transport.NewMasters([]string{d.peers[0].Grid, d.peers[1].Grid}, d.pool)))
		})
		lags := []int{1, 10}
		if number(t, "GRID_SIM_LOSSES", 0) > 0 {
			lags = append(lags, 100)
		}
		var all []*straggler
		for _, lag := range lags {
			all = append(all, d.straggler(a, lag))
		}
		stop, total := make(chan struct{}), make(chan int)
		for _, s := range all {
			go func() { total <- s.work(t, all, stop) }()
		}
		for a.size() < lags[len(lags)-1]+5 {
			d.comeAndGo(restless)
		}
		d.replaceAll(moved)
		close(stop)
		answers := 0
		for range all {
			answers += <-total
		}
		for _, s := range all {
			if s.most < s.lag {
				t.Errorf("the one that was to be %d maps behind was %d", s.lag, s.most)
			}
			d.fault(s.client.Close())
		}
		if answers < 100 {
			t.Errorf("only %d answers", answers)
		}
		t.Logf("%d answers, %d maps", answers, a.size())
		cancel()
		wg.Wait()
	})
}

// comeAndGo gives a shard a learner and takes it away again: two maps at least, and nobody has to follow them.
func (d *district) comeAndGo(shard event.ShardID) {
	d.world.t.Helper()
	before, in := voters(d.view(), shard), stranger(d.view(), shard)
	d.assign(shard, in, event.RoleLearner, "")
	d.assign(shard, in, event.RoleLeaving, "")
	d.settled(shard, before)
}

// replaceAll gives the places of a shard's voters, one after the other, to nodes that have had none.
func (d *district) replaceAll(shard event.ShardID) {
	d.world.t.Helper()
	now := strings.Fields(voters(d.view(), shard))
	var fresh []event.NodeID
	for node := range d.view().Nodes() {
		if !slices.Contains(now, string(node.ID)) {
			fresh = append(fresh, node.ID)
		}
	}
	for n, out := range now {
		d.assign(shard, fresh[n], event.RoleLearner, event.NodeID(out))
		now[n] = string(fresh[n])
		d.settled(shard, strings.Join(now, " "))
	}
}
