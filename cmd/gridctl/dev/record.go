package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// shape is what of a configuration cannot change once a grid has been formed.
type shape struct {
	Masters  int `json:"masters"`
	Agents   int `json:"agents"`
	Shards   int `json:"shards"`
	Replicas int `json:"replicas"`
}

func (c Config) shape() shape {
	return shape{Masters: c.Masters, Agents: c.Agents, Shards: c.Shards, Replicas: c.Replicas}
}

// record is supervisor.json: the grid's shape, and who was started. A child is recorded before it runs anything.
type record struct {
	path string

	mu      sync.Mutex
	content recordContent
}

type recordContent struct {
	Shape    shape                   `json:"shape"`
	Children map[string]platform.Ref `json:"children"` // by id, as last started
}

// openRecord reads what an earlier run left; a missing file is an empty record.
func openRecord(path string) (*record, error) {
	r := &record{path: path, content: recordContent{Children: map[string]platform.Ref{}}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r.content)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if r.content.Children == nil {
		r.content.Children = map[string]platform.Ref{}
	}
	return r, nil
}

// claim checks that the data is of a grid of this shape, and records the shape of a new one. Masters would ignore other numbers of
// shards and replicas, and refuse another list of masters with a message about peers.
func (r *record) claim(s shape) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.content.Shape
	if had == s {
		return nil
	}
	if had != (shape{}) {
		return fmt.Errorf("the data is of a grid with --masters %d --agents %d --shards %d --replicas %d: use the same numbers, another --data, or --fresh",
			had.Masters, had.Agents, had.Shards, had.Replicas)
	}
	r.content.Shape = s
	return r.saveLocked()
}

// shape is that of the grid in the data; zero: there is none yet.
func (r *record) shape() shape {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.content.Shape
}

// forget begins an empty record: what it told of is gone.
func (r *record) forget() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content = recordContent{Children: map[string]platform.Ref{}}
	return r.saveLocked()
}

// started records a child before it runs.
func (r *record) started(id string, ref platform.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content.Children[id] = ref
	return r.saveLocked()
}

// child is the last instance of a child.
func (r *record) child(id string) (platform.Ref, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref, ok := r.content.Children[id]
	return ref, ok
}

func (r *record) saveLocked() error {
	text, err := json.MarshalIndent(r.content, "", "  ")
	if err != nil {
		return err
	}
	return datadir.WriteFileAtomic(r.path, append(text, '\n'), 0o644)
}
