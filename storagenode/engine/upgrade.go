package engine

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A store says in its own record which format it has. One of an older format is brought to the present one when it is opened
// or restored, before anything reads it. The record is written last, so a crash in between leaves the old format, and the
// next open begins again. A store of a newer format is refused.
//
//	1  without secondary indexes
//	2  with them; in the events shard a concept was created when its event happened
const (
	oldestFormat      = 1
	upgradeBatchBytes = 1 << 20
)

// upgrade brings a store to the present format, durably.
func upgrade(db *pebble.DB, m *meta, log *slog.Logger) error {
	if m.Format == formatVersion {
		return nil
	}
	start, from := time.Now(), m.Format
	if err := indexConcepts(db, m.ShardID); err != nil {
		return fmt.Errorf("upgrade from format %d: index concepts: %w", from, err)
	}
	m.Format = formatVersion
	value, err := encodeMeta(*m)
	if err != nil {
		return err
	}
	if err := db.Set([]byte{tableMeta}, value, pebble.NoSync); err != nil {
		return err
	}
	if err := db.Flush(); err != nil {
		return fmt.Errorf("upgrade from format %d: %w", from, err)
	}
	log.Info("store upgraded", "shard", string(m.ShardID), "from_format", from, "to_format", formatVersion,
		"concepts", m.Concepts, "took", time.Since(start))
	return nil
}
