package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// A connection with the purpose of a snapshot goes on, behind the handshake, so: the receiver asks with a frame (demand), the
// sender gives an answer as in the handshake, a frame (offer), and the snapshot's content, which has its own checksums
// (chunkWriter), to its last byte. A frame is u32 length, body, CRC-32C over (group id, body).
const (
	frameBytes   = 64 << 10 // a configuration of 64 KiB has hundreds of replicas
	maxServers   = 1 << 10
	demandFields = 1
	offerFields  = 5

	// streamIdle is how long either side may keep the other waiting for the next bytes of a snapshot.
	streamIdle = 30 * time.Second
)

// demand is what the receiver wants: a snapshot that ends with this entry or later.
type demand struct{ atLeast uint64 }

func (d demand) encode() []byte {
	return pack.AppendUint(pack.AppendArrayHeader(nil, demandFields), d.atLeast)
}

func decodeDemand(b []byte) (d demand, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil || fields < demandFields {
		return d, fmt.Errorf("demand: %d fields, want %d (%w)", fields, demandFields, err)
	}
	d.atLeast, err = r.Uint()
	return d, err
}

// offer is what the sender has: MessagePack [index, term, bytes, index of the configuration, [id, votes, id, votes…]].
type offer struct {
	index, term uint64 // the last entry in the snapshot
	bytes       uint64 // of content
	conf        configuration
}

func offerOf(meta *raft.SnapshotMeta) offer {
	return offer{index: meta.Index, term: meta.Term, bytes: uint64(meta.Size), conf: *configurationIn(meta)}
}

func (o offer) encode() []byte {
	b := pack.AppendArrayHeader(nil, offerFields)
	b = pack.AppendUint(b, o.index)
	b = pack.AppendUint(b, o.term)
	b = pack.AppendUint(b, o.bytes)
	return o.conf.append(b)
}

func decodeOffer(b []byte) (o offer, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil || fields < offerFields {
		return o, fmt.Errorf("offer: %d fields, want %d (%w)", fields, offerFields, err)
	}
	var errs [3]error
	o.index, errs[0] = r.Uint()
	o.term, errs[1] = r.Uint()
	o.bytes, errs[2] = r.Uint()
	if err := errors.Join(errs[:]...); err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	if o.conf, err = readConfiguration(r); err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	return o, o.check()
}

// check refuses what no snapshot is.
func (o offer) check() error {
	if o.bytes == 0 || o.bytes > 1<<62 {
		return fmt.Errorf("offer of %d bytes: no snapshot is such", o.bytes)
	}
	if err := o.conf.check(o.index, o.term); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	return nil
}

func writeFrame(w io.Writer, group string, body []byte) error {
	if len(body) > frameBytes {
		return fmt.Errorf("a frame of %d bytes, at most %d are allowed", len(body), frameBytes)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(b, body...)
	_, err := w.Write(binary.BigEndian.AppendUint32(b, bodySum(group, body)))
	return err
}

func readFrame(r io.Reader, group string) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > frameBytes {
		return nil, fmt.Errorf("a frame of %d bytes, at most %d are allowed", n, frameBytes)
	}
	b := make([]byte, n+sumBytes)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if body := b[:n]; binary.BigEndian.Uint32(b[n:]) == bodySum(group, body) {
		return body, nil
	}
	return nil, errSum
}

// paced gives each read and write of a connection its own deadline.
type paced struct {
	net.Conn
	idle time.Duration
}

// Read implements io.Reader.
func (p paced) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(p.idle)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// Write implements io.Writer.
func (p paced) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(p.idle)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}
