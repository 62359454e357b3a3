package engine

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Checkpoint makes a copy of the state in dir, which must not exist: a Pebble store of hard links to this one's files, which never
// change. Everything that Apply has returned from is in it, and nothing is applied to it later. The caller sees to it that nothing
// is applied meanwhile (raftgroup.Group.Fix); a Flush before keeps that short. The files are what is replicated, and the record of changed vectors.
func (e *Engine) Checkpoint(dir string) error {
	s, err := e.use()
	if err != nil {
		return err
	}
	defer s.release()
	if err = e.failed(); err == nil {
		err = s.db.Flush() // its own log is off: what is in memory would be missing
	}
	if err == nil {
		err = s.db.Checkpoint(dir)
	}
	if err != nil {
		return fmt.Errorf("checkpoint of shard %s in %s: %w", e.o.ShardID, dir, damaged(err))
	}
	return nil
}

// Adopt makes an engine's directory of a checkpoint's files: dir, which must not exist, gets them by a rename. They are looked into
// before: another shard's, those of another dimension, of an entry other than applied, and what cannot be read stay where they
// are. The directory is complete and durable when there is no error; what a crash leaves is dir without CURRENT, which Open refuses.
func Adopt(dir, files string, applied uint64, o Options) error {
	if err := adopt(dir, files, applied, o); err != nil {
		return fmt.Errorf("take over the state of %s from %s: %w", o.ShardID, files, err)
	}
	return nil
}

func adopt(dir, files string, applied uint64, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	o.fs = watch(o.fs, files, func(error) {}) // the error is the caller's
	if err := checkStore(files, applied, &o); err != nil {
		return err
	}
	if err := o.fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := storePrefix + "000001"
	if err := o.fs.Rename(files, o.fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return errors.Join(syncDir(o.fs, o.fs.PathDir(files)), setCurrent(o.fs, dir, name))
}

// checkStore reads what a store says about itself, and changes nothing in it.
func checkStore(dir string, applied uint64, o *Options) (err error) {
	var damage error
	c := storeConfig{fs: o.fs, cacheBytes: 1 << 20, log: o.Log, fatal: func(err error) { damage = err }}
	s, err := c.open(dir, &pebble.Options{ErrorIfNotExists: true, ReadOnly: true})
	if err != nil {
		return err
	}
	loaded, err := loadState(s.db, o)
	s.release()
	if err := errors.Join(err, s.err, damage); err != nil {
		return damaged(err)
	}
	if loaded.meta.Applied != applied {
		return fmt.Errorf("it is the state at entry %d, not at entry %d", loaded.meta.Applied, applied)
	}
	return nil
}
