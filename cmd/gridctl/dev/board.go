package dev

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
)

// devFile is dev.json. A process that is down has pid 0; console is empty, as there is none.
type devFile struct {
	Masters []devMaster `json:"masters"`
	Agents  []devAgent  `json:"agents"`
	Nodes   []devNode   `json:"nodes"`
	Events  string      `json:"events"`
	Ready   bool        `json:"ready"`
}

type devMaster struct {
	ID      string `json:"id"`
	PID     int    `json:"pid"`
	Raft    string `json:"raft"`
	HTTP    string `json:"http"`
	Grid    string `json:"grid"`
	Console string `json:"console"`
}

type devAgent struct {
	ID      string `json:"id"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
}

type devNode struct {
	ID       string          `json:"id"`
	PID      int             `json:"pid"`
	Agent    string          `json:"agent"`
	Endpoint string          `json:"endpoint"`
	Shards   []event.ShardID `json:"shards"`
}

// board keeps dev.json true: whoever changes something it shows marks it dirty.
type board struct {
	layout layout
	dirty  chan struct{} // holds one element when something changed since the file was written
	ready  atomic.Bool
	shards atomic.Pointer[shardmap.Map] // as last heard from the masters

	masters, agents []*child
	fleet           *fleet
}

func newBoard(l layout) *board { return &board{layout: l, dirty: make(chan struct{}, 1)} }

// changed marks the file as out of date.
func (b *board) changed() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// keep writes the file whenever something changed, until ctx ends. onChange is called behind each write.
func (b *board) keep(ctx context.Context, onChange func()) error {
	for {
		if err := b.write(); err != nil {
			return err
		}
		onChange()
		select {
		case <-b.dirty:
		case <-ctx.Done():
			return nil
		}
	}
}

// write replaces the file in one step. It is not synced: it says nothing that outlives this process.
func (b *board) write() error {
	text, err := json.MarshalIndent(b.content(), "", "  ")
	if err != nil {
		return err
	}
	path := b.layout.dirs.devFile()
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (b *board) content() devFile {
	f := devFile{Masters: []devMaster{}, Agents: []devAgent{}, Nodes: []devNode{}, Events: b.layout.events, Ready: b.ready.Load()}
	for i, m := range b.layout.masters {
		f.Masters = append(f.Masters, devMaster{ID: m.id, PID: b.masters[i].pid(), Raft: m.raft, HTTP: m.http, Grid: m.grid})
	}
	for i, a := range b.layout.agents {
		f.Agents = append(f.Agents, devAgent{ID: a.id, PID: b.agents[i].pid(), Address: a.address})
	}
	for _, n := range b.fleet.list() {
		f.Nodes = append(f.Nodes, devNode{ID: string(n.NodeID), PID: n.pid, Agent: n.agent, Endpoint: n.Endpoint, Shards: b.shardsOf(n.NodeID)})
	}
	return f
}

func (b *board) shardsOf(node event.NodeID) []event.ShardID {
	shards := []event.ShardID{}
	m := b.shards.Load()
	if m == nil {
		return shards
	}
	for _, s := range m.Shards {
		for _, r := range s.Replicas {
			if r.NodeID == node {
				shards = append(shards, s.ID)
			}
		}
	}
	return shards
}

// removeFile is no error when there is none.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
