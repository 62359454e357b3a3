package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// Restore replaces the state by a snapshot's: it builds a store beside the present one, makes it durable, and switches by
// renaming one file. An error before the switch leaves the state as it was.
func (e *Engine) Restore(r io.Reader) error {
	if err := e.restore(r); err != nil {
		return fmt.Errorf("restore shard %s: %w", e.o.ShardID, err)
	}
	return nil
}

func (e *Engine) restore(r io.Reader) error {
	if err := e.failed(); err != nil {
		return err
	}
	old, err := e.use()
	if err != nil {
		return err
	}
	defer old.release()
	fs := e.o.fs
	name, err := nextName(path.Base(old.dir))
	if err != nil {
		return err
	}
	dir := fs.PathJoin(e.dir, name)
	if err := fs.RemoveAll(dir); err != nil { // an earlier restore may have failed there
		return err
	}
	fresh, err := makeStore(dir, e.storeConfig())
	if err != nil {
		return err
	}
	loaded, err := e.fill(fresh, r)
	if err == nil {
		err = e.o.step(fault.EngineFilled)
	}
	if err != nil {
		fresh.release()
		return errors.Join(err, fresh.err, fs.RemoveAll(dir))
	}
	// From here on the directory may name either store: what fails leaves it to the next Open.
	err = setCurrent(fs, e.dir, name)
	if err == nil {
		err = e.o.step(fault.EngineSwitched)
	}
	if err != nil {
		fresh.release()
		e.fail(fmt.Errorf("switch to %s: %w", dir, err))
		return err
	}
	e.install(fresh, loaded)
	e.retire(old)
	return nil
}

// retire parts with a store that was replaced, and forgets those that are closed by now.
func (e *Engine) retire(old *store) {
	e.mu.Lock()
	e.retired = append(slices.DeleteFunc(e.retired, (*store).isClosed), old)
	e.mu.Unlock()
	old.retire()
}

// nextName is the name of the store that follows.
func nextName(name string) (string, error) {
	var n uint64
	if _, err := fmt.Sscanf(name, storePrefix+"%d", &n); err != nil {
		return "", fmt.Errorf("store name %q: %w", name, err)
	}
	return fmt.Sprintf(storePrefix+"%06d", n+1), nil
}

// fill writes a snapshot's rows into an empty store, makes them durable and loads the state they are.
func (e *Engine) fill(s *store, r io.Reader) (*state, error) {
	header, err := readSnapshot(r, e.o.ShardID, func(body []byte, sum *digest) error { return writeRows(s.db, body, sum) })
	if err != nil {
		return nil, err
	}
	if err := s.db.Flush(); err != nil {
		return nil, err
	}
	loaded, err := loadState(s.db, &e.o)
	if err != nil {
		return nil, err
	}
	if loaded.meta.Applied != header.Applied {
		return nil, fmt.Errorf("the rows are the state at entry %d, the header says %d", loaded.meta.Applied, header.Applied)
	}
	if err := upgrade(s.db, &loaded.meta, e.o.Log); err != nil {
		return nil, err
	}
	return loaded, openVectorRecord(s.db, header.Applied)
}

// readSnapshot reads a snapshot of a shard and gives each chunk of rows to take, which adds them to the digest. Without an
// error every row that was sent has arrived.
func readSnapshot(r io.Reader, shard event.ShardID, take func(body []byte, sum *digest) error) (header snapshotHeader, err error) {
	in := chunkReader{r: bufio.NewReaderSize(r, 64<<10), group: string(shard)}
	if err := in.record(&header); err != nil {
		return header, fmt.Errorf("read the header: %w", err)
	}
	if header.Magic != snapshotMagic || header.Format < oldestFormat || header.Format > formatVersion || header.ShardID != shard {
		return header, fmt.Errorf("the stream is %q format %d of shard %q, not format %d to %d of this shard",
			header.Magic, header.Format, header.ShardID, oldestFormat, formatVersion)
	}
	sum := newDigest()
	for {
		body, err := in.next()
		if err != nil {
			return header, fmt.Errorf("read behind row %d: %w", sum.rows, err)
		}
		if len(body) == 0 {
			break
		}
		if err := take(body, sum); err != nil {
			return header, fmt.Errorf("write behind row %d: %w", sum.rows, err)
		}
	}
	var trailer snapshotTrailer
	if err := in.record(&trailer); err != nil {
		return header, fmt.Errorf("read the trailer: %w", err)
	}
	if trailer.Rows != sum.rows || trailer.Digest != sum.sum() {
		return header, fmt.Errorf("%d rows with digest %x arrived, %d with %x were sent", sum.rows, sum.sum(), trailer.Rows, trailer.Digest)
	}
	return header, nil
}

// writeRows writes the rows of one chunk.
func writeRows(db *pebble.DB, body []byte, sum *digest) error {
	batch := db.NewBatch()
	defer func() { _ = batch.Close() }() // of memory only
	err := eachChunkRow(body, func(key, value []byte) error {
		sum.add(key, value)
		return batch.Set(key, value, nil)
	})
	if err != nil {
		return err
	}
	return batch.Commit(pebble.NoSync)
}

// eachChunkRow calls fn for every row of a chunk's body.
func eachChunkRow(body []byte, fn func(key, value []byte) error) error {
	for len(body) > 0 {
		key, rest, err := cutField(body)
		if err != nil {
			return err
		}
		value, rest, err := cutField(rest)
		if err != nil {
			return err
		}
		if err := fn(key, value); err != nil {
			return err
		}
		body = rest
	}
	return nil
}

// cutField takes a length and as many bytes off b.
func cutField(b []byte) (field, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, errors.New("a row is longer than its chunk")
	}
	return b[used : used+int(n)], b[used+int(n):], nil
}
