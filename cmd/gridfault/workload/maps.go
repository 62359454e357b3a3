package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maps are watchers of the shard map, a part of W8. Each follows it from what it has, at one master after the other, as nodes and clients do
// that lose a connection: no master may send what is older.
type maps struct{ env Env }

const (
	mapWatchers = 3
	mapTurn     = 400 * time.Millisecond // at one master
	noteMap     = "W8 map"
)

// mapStep is a map that a watcher was sent.
type mapStep struct {
	Watcher int            `json:"watcher"`
	Master  string         `json:"master"`
	Had     event.Position `json:"had"`
	Got     event.Position `json:"got"`
}

// Run follows until ctx ends.
func (m maps) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, mapWatchers)
	for i := range mapWatchers {
		wg.Go(func() { errs[i] = m.follow(ctx, i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m maps) follow(ctx context.Context, index int) error {
	pool := transport.NewPool(transport.PoolConfig{Network: m.env.Grid.Network(fmt.Sprintf("client-%d", index))})
	masters := m.env.Grid.Layout().Masters
	step := mapStep{Watcher: index}
	for turn := index; ctx.Err() == nil; turn++ {
		master := masters[turn%len(masters)]
		one, cancel := context.WithTimeout(ctx, mapTurn)
		_ = pool.Stream(one, master.Address, &transport.WatchShardMap{Epoch: step.Had}, func(msg any) error {
			if ok, is := msg.(*transport.ShardMapOk); is && ok.Map.Epoch != step.Had {
				step.Master, step.Got = string(master.ID), ok.Map.Epoch
				m.saw(&step)
			}
			return nil
		}) // a master that is behind, or away, refuses: the next one is asked
		<-one.Done()
		cancel()
	}
	return pool.Close()
}

// saw records a step; a watcher never goes back by itself.
func (m maps) saw(s *mapStep) {
	if m.env.Broken != EmptyHistory {
		m.env.History.Note(noteMap, *s)
	}
	if s.Had.Less(s.Got) {
		s.Had = s.Got
	}
}

func checkMaps(l *history.Log) history.Report {
	steps, err := params[mapStep](l, noteMap)
	if err != nil {
		return history.Fault("maps", err)
	}
	r := history.Report{Checker: "maps", Checked: len(steps)}
	for _, s := range steps {
		if !s.Had.Less(s.Got) {
			r.Add(history.WatchBroken, nil, "watcher %d had the shard map of epoch %+v; %s sent it that of %+v", s.Watcher, s.Had, s.Master, s.Got)
		}
	}
	return r
}
