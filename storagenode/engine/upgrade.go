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
//	3  may hold what only level 3 writes: intents with its ops, attempts in parts, kept results
//
// From 2 to 3 no row changes. A store becomes one of format 3 when its log is raised to level 3, on every replica with the same
// entry: so in a group whose log is below that level, a replica of an older version can still take over a store or a snapshot.
const upgradeBatchBytes = 1 << 20

// upgrade brings a store to the format of a new one, durably.
func upgrade(db *pebble.DB, m *meta, log *slog.Logger) error {
	if m.Format >= indexedFormat {
		return nil
	}
	start, from := time.Now(), m.Format
	if err := indexConcepts(db, m.ShardID); err != nil {
		return fmt.Errorf("upgrade from format %d: index concepts: %w", from, err)
	}
	m.Format = indexedFormat
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
	log.Info("store upgraded", "shard", string(m.ShardID), "from_format", from, "to_format", indexedFormat,
		"concepts", m.Concepts, "took", time.Since(start))
	return nil
}
