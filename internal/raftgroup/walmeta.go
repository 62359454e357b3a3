package raftgroup

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"go.etcd.io/bbolt"
)

// walMeta is what raft-wal knows of its files, in the database and form of its own metadb, with two additions that a program of before
// passes over: a last field of the object, the CRC-32C of what stands before it; and keyHeld, for which see tailFiler.
//
// It is the log store's: calls come one at a time, but for Append's (hold), which comes alone too.
type walMeta struct {
	db   *bbolt.DB
	path string
	held uint64 // keyHeld: the file's id + 1; 0: not known

	complete func(*types.PersistentState) (bool, error) // see tailFiler.completeRotation
}

// keyHeld is 1 + the id of the file that the log's last entries are in, written behind the first of them and before that is acknowledged.
const keyHeld = "Held"

const (
	metaSum     = `,"CRC":"%08x"}`
	metaSumSize = len(`,"CRC":"00000000"}`)
)

// Load implements types.MetaStore.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	m.path = filepath.Join(dir, metadb.FileName)
	if err := makeMeta(dir, m.path); err != nil {
		return types.PersistentState{}, err
	}
	db, err := bbolt.Open(m.path, 0o644, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return types.PersistentState{}, fmt.Errorf("open %s: %w", m.path, err)
	}
	m.db = db
	var state types.PersistentState
	err = db.View(func(tx *bbolt.Tx) error {
		state, m.held, err = readMeta(tx)
		return err
	})
	if err != nil {
		return state, err
	}
	if changed, err := m.complete(&state); err != nil || !changed {
		return state, err
	}
	return state, m.CommitState(state)
}

// makeMeta makes the file if there is none, in raft-wal's atomic way, or checks it.
func makeMeta(dir, path string) error {
	there, err := datadir.Exists(path)
	if err != nil {
		return err
	}
	if there {
		return checkBolt(path)
	}
	var first metadb.BoltMetaDB
	if _, err := first.Load(dir); err != nil {
		return err
	}
	fault.Synced(path)
	fault.Synced(dir)
	return first.Close()
}

// readMeta reads and checks the values.
func readMeta(tx *bbolt.Tx) (state types.PersistentState, held uint64, err error) {
	bucket := tx.Bucket([]byte(metadb.MetaBucket))
	if bucket == nil {
		return state, 0, fmt.Errorf("%s has no bucket %q", tx.DB().Path(), metadb.MetaBucket)
	}
	if raw := bucket.Get([]byte(metadb.MetaKey)); raw != nil { // nil: nothing was ever stored
		body, err := withoutMetaSum(raw)
		if err == nil {
			err = json.Unmarshal(body, &state)
		}
		if err != nil {
			return state, 0, fmt.Errorf("%s: key %s: %w", tx.DB().Path(), metadb.MetaKey, err)
		}
	}
	if raw := bucket.Get([]byte(keyHeld)); raw != nil {
		value, err := withoutSum(keyHeld, raw)
		if err != nil {
			return state, 0, fmt.Errorf("%s: %w", tx.DB().Path(), err)
		}
		held = binary.BigEndian.Uint64(value)
	}
	return state, held, nil
}

// withMetaSum takes an object's text.
func withMetaSum(body []byte) []byte {
	body = body[:len(body)-1]
	return fmt.Appendf(body[:len(body):len(body)], metaSum, crc32.Checksum(body, castagnoli()))
}

// withoutMetaSum is the text without the sum; one of before has none.
func withoutMetaSum(raw []byte) ([]byte, error) {
	n := len(raw) - metaSumSize
	if n < 1 || string(raw[n:][:8]) != metaSum[:8] {
		return raw, nil
	}
	if string(fmt.Appendf(nil, metaSum, crc32.Checksum(raw[:n], castagnoli()))) != string(raw[n:]) {
		return nil, fmt.Errorf("%w: %w", errValue, errSum)
	}
	return append(raw[:n:n], '}'), nil
}

// CommitState implements types.MetaStore.
func (m *walMeta) CommitState(state types.PersistentState) error {
	body, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode what the log knows of its files: %w", err)
	}
	return m.put(metadb.MetaKey, withMetaSum(body))
}

// hold says that a file holds entries from now on.
func (m *walMeta) hold(id uint64) error {
	if err := m.put(keyHeld, withSum(keyHeld, binary.BigEndian.AppendUint64(nil, id+1))); err != nil {
		return err
	}
	m.held = id + 1
	return nil
}

// holds tells whether a file is known to hold entries.
func (m *walMeta) holds(id uint64) bool { return m.held == id+1 }

func (m *walMeta) put(key string, value []byte) error {
	err := m.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(metadb.MetaBucket)).Put([]byte(key), value)
	})
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", key, m.path, err)
	}
	fault.Synced(m.path)
	return nil
}

var errNotStable = errors.New("term and vote are not kept with the log")

// GetStable implements types.MetaStore.
func (m *walMeta) GetStable([]byte) ([]byte, error) { return nil, errNotStable }

// SetStable implements types.MetaStore.
func (m *walMeta) SetStable(_, _ []byte) error { return errNotStable }

// Close implements types.MetaStore.
func (m *walMeta) Close() error {
	if m.db == nil {
		return nil
	}
	return m.db.Close()
}
