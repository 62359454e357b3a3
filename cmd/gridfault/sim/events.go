package sim

import (
	"context"
	"fmt"
	"sync"

	"github.com/sutra-grid/sutra-grid/storagenode"
)

// eventsProcess is event storage, as gridnode --events assembles it.
type eventsProcess struct {
	g *Grid

	mu   sync.Mutex
	node *storagenode.Node // guarded by mu; nil: down
	mute func()            // guarded by mu; silences node's log
}

func (p *eventsProcess) name() string { return eventsHost }
func (p *eventsProcess) host() string { return eventsHost }

func (p *eventsProcess) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node != nil
}

// start implements process.
func (p *eventsProcess) start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node != nil {
		return nil
	}
	v := p.g.tap.of(p.name())
	cfg := storagenode.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Events, cfg.Network = p.g.path(eventsHost, 0), p.g.layout.Events, true, p.g.net.Host(eventsHost)
	p.g.sizes(&cfg)
	cfg.Log = p.g.log(v)
	p.g.net.Up(eventsHost)
	n, err := storagenode.Open(cfg)
	if err != nil {
		return fmt.Errorf("start event storage: %w", err)
	}
	p.node, p.mute = n, func() { v.mute.Store(true) }
	return nil
}

// kill implements process.
func (p *eventsProcess) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return nil
	}
	n := p.node
	p.node = nil
	p.mute()
	p.g.net.Down(eventsHost)
	if err := n.Abort(); err != nil {
		return fmt.Errorf("kill event storage: %w", err)
	}
	return nil
}

// sizes makes a node small and its snapshots frequent.
func (g *Grid) sizes(cfg *storagenode.Config) {
	cfg.Dimension, cfg.CacheBytes, cfg.Groups.SegmentBytes = dimension, cacheBytes, segmentBytes
	cfg.Groups.SnapshotThreshold, cfg.Groups.TrailingLogs, cfg.Groups.Timeouts.Snapshot = g.cfg.SnapshotThreshold, g.cfg.TrailingLogs, snapshotLook
	cfg.Memory = func() uint64 { return 0 } // that of this process is all nodes', and differs from run to run
}

const (
	dimension  = 4 // of vectors
	cacheBytes = 4 << 20
)
