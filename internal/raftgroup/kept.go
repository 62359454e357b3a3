package raftgroup

import (
	"bytes"
	"errors"
	"io"

	"github.com/hashicorp/raft"
)

// errRecord: what raft would restore is not there (KeptSnapshot). The start rule asks for it only when the FSM has less than it
// once made durable.
var errRecord = errors.New("it is a record of a state that the state machine's own store held, and that store has an older one now")

// peek reads a snapshot's header and gives its content back whole. What cannot be read is left to whoever restores it.
func peek(content io.ReadCloser, group string) (snapshotHeader, io.ReadCloser) {
	var read bytes.Buffer
	_, h, err := newChunkReader(io.TeeReader(content, &read), group)
	if err != nil {
		h = snapshotHeader{}
	}
	return h, struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&read, content), content}
}

// live is the state as it is now, in place of the content that a record does not have. What raft sends as the snapshot of the
// record's entry is then one of a later entry, and says so: its index, term and configuration are those of the state that is
// sent, exactly (Point). Raft takes them from here, and goes on behind them.
//
// It is read twice, as raft wants to know the size first. Neither pass holds up Apply.
func (s *snapshotStore) live(record *raft.SnapshotMeta) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var snap Snapshot
	p, err := s.state.at(record, func() (err error) { snap, err = s.state.fsm.Snapshot(); return err })
	if err != nil {
		return nil, nil, err
	}
	write := func(w io.Writer) error { return writeChunked(w, s.group, p.header(), snap.Write) }
	var size countingWriter
	if err := write(&size); err != nil {
		snap.Release()
		return nil, nil, err
	}
	meta := &raft.SnapshotMeta{
		Version: record.Version, ID: record.ID, Index: p.Index, Term: p.Term, Size: int64(size),
		Configuration: raft.Configuration{Servers: p.configuration.servers}, ConfigurationIndex: p.configuration.index,
	}
	r, w := io.Pipe()
	content := &liveContent{PipeReader: r, done: make(chan struct{})}
	go func() {
		defer close(content.done)
		defer snap.Release()
		_ = w.CloseWithError(write(w)) // never fails; the reader gets the error
	}()
	return meta, content, nil
}

// liveContent is a state that is read while it is written.
type liveContent struct {
	*io.PipeReader
	done chan struct{} // closed when the writer has ended
}

// Close implements io.Closer; the writer ends before it returns.
func (c *liveContent) Close() error {
	err := c.PipeReader.Close()
	<-c.done
	return err
}

// countingWriter counts what is written.
type countingWriter int64

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	*c += countingWriter(len(p))
	return len(p), nil
}
