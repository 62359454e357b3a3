package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/disk"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// ofReplicas are the files of logs, votes, snapshots and state; an agent's are on the same disk as its node's.
func ofReplicas(path string) bool {
	return strings.Contains(path, "/raft/") || strings.Contains(path, "/shards/") || strings.Contains(path, "/outbox/")
}

// diskSlow makes every sync take long on the disks of the leading master and of a shard's leader, one of which at least has something to
// write; but not as long as what a process takes for a disk that hangs.
func (g *Grid) diskSlow(_ context.Context, f rig.Fault) (*injected, error) {
	r := dice(f)
	lead, err := g.leading()
	if err != nil {
		return nil, err
	}
	_, node, err := g.shardLeader(r)
	if err != nil {
		return nil, err
	}
	slow := &disk.Fault{Delay: time.Duration(50+r.IntN(350)) * time.Millisecond, Of: ofReplicas}
	in := &injected{met: fmt.Sprintf("%s, %s, %s", lead, node, slow.Delay)}
	for _, host := range []string{lead, node} {
		g.disks[host].Hurt(slow)
	}
	in.heal = func(context.Context) error {
		for _, host := range []string{lead, node} {
			g.disks[host].Hurt(nil)
		}
		in.count = slow.Met.Load()
		return nil
	}
	return in, nil
}
