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
	b = pack.AppendUint(b, o.conf.index)
	b = pack.AppendArrayHeader(b, 2*len(o.conf.servers))
	for _, s := range o.conf.servers {
		b = pack.AppendString(b, string(s.ID))
		b = pack.AppendBool(b, s.Suffrage == raft.Voter)
	}
	return b
}

func decodeOffer(b []byte) (o offer, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil || fields < offerFields {
		return o, fmt.Errorf("offer: %d fields, want %d (%w)", fields, offerFields, err)
	}
	var errs [4]error
	o.index, errs[0] = r.Uint()
	o.term, errs[1] = r.Uint()
	o.bytes, errs[2] = r.Uint()
	o.conf.index, errs[3] = r.Uint()
	if err := errors.Join(errs[:]...); err != nil {
		return o, fmt.Errorf("offer: %w", err)
	}
	n, err := r.ArrayLen()
	if err != nil || n%2 != 0 || n > 2*maxServers {
		return o, fmt.Errorf("offer: %d ids and votes (%w)", n, err)
	}
	for range n / 2 {
		id, err1 := r.String()
		votes, err2 := r.Bool()
		if err := errors.Join(err1, err2); err != nil {
			return o, fmt.Errorf("offer: member %d: %w", len(o.conf.servers), err)
		}
		s := raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)}
		if votes {
			s.Suffrage = raft.Voter
		}
		o.conf.servers = append(o.conf.servers, s)
	}
	return o, o.check()
}

// check refuses what no snapshot is.
func (o offer) check() error {
	voters, seen := 0, map[raft.ServerID]bool{}
	for _, s := range o.conf.servers {
		if s.ID == "" || seen[s.ID] {
			return fmt.Errorf("offer: member %q is nobody or listed twice", s.ID)
		}
		seen[s.ID] = true
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if o.index == 0 || o.term == 0 || o.bytes == 0 || o.bytes > 1<<62 || o.conf.index == 0 || o.conf.index > o.index || voters == 0 {
		return fmt.Errorf("offer of %d bytes to entry %d of term %d, configuration %d with %d voters: no snapshot is such", o.bytes, o.index, o.term, o.conf.index, voters)
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
