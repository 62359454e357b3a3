package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/hashicorp/raft"
)

// sendSnapshot is the sender's side of Reinstall: it answers one demand with the newest snapshot.
func (g *Group) sendSnapshot(peer io.ReadWriter) error {
	body, err := readFrame(peer, g.cfg.GroupID)
	if err != nil {
		return fmt.Errorf("demand: %w", err)
	}
	wanted, err := decodeDemand(body)
	if err != nil {
		return err
	}
	meta, content, err := g.snapshotTo(wanted.atLeast)
	if err := errors.Join(err, writeAnswer(peer, err)); err != nil {
		return err
	}
	defer content.Close()
	if err := writeFrame(peer, g.cfg.GroupID, offerOf(meta).encode()); err != nil {
		return err
	}
	_, err = io.CopyN(peer, content, meta.Size)
	return err
}

// snapshotTo is the newest snapshot, if it reaches to an entry; a new one is taken if not.
func (g *Group) snapshotTo(entry uint64) (*raft.SnapshotMeta, io.ReadCloser, error) {
	newest := uint64(0)
	for range 3 { // as it is; one that was taken; one that replaced it between the two calls
		metas, err := g.stores.snapshots.List()
		if err != nil {
			return nil, nil, err
		}
		if len(metas) > 0 && metas[0].Index >= entry {
			meta, content, err := g.stores.snapshots.Open(metas[0].ID)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return meta, content, err
		}
		if len(metas) > 0 {
			newest = metas[0].Index
		}
		if err := g.Snapshot(); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("the newest snapshot of %s at %s ends at entry %d, and entry %d is needed", g.cfg.GroupID, g.cfg.LocalID, newest, entry)
}
