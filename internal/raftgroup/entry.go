package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// entryVersion is the version of the encoding: [version, level, time, [command…]] in MessagePack, then CRC-32C, big-endian,
// over (group id, those bytes).
const entryVersion = 1

const sumBytes = 4

// Errors of bytes that cannot be trusted.
var (
	errSum   = errors.New("the checksum does not match")
	errShort = errors.New("too short to hold a checksum")
)

// castagnoli makes the table, or finds the one made before: the standard library keeps it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// bodySum is CRC-32C over (group id, body): an entry of one group never passes for one of another.
func bodySum(group string, body []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(group), castagnoli()), castagnoli(), body)
}

// sumIs compares a stored checksum with that of what was read.
func sumIs(stored []byte, sum uint32) bool {
	return binary.BigEndian.Uint32(stored) == sum || fault.Broken(fault.ChecksumOff)
}

// appendEntry encodes what a leader proposes. Index and term are raft's.
func appendEntry(b []byte, group string, e Entry) []byte {
	start := len(b)
	b = pack.AppendArrayHeader(b, 4)
	b = pack.AppendUint(b, uint64(e.Version))
	b = pack.AppendUint(b, uint64(e.Level))
	b = pack.AppendInt(b, e.Time)
	b = pack.AppendArrayHeader(b, len(e.Commands))
	for _, c := range e.Commands {
		b = pack.AppendBin(b, c)
	}
	return binary.BigEndian.AppendUint32(b, bodySum(group, b[start:]))
}

// decodeEntry checks and decodes; the commands share b's memory.
func decodeEntry(group string, b []byte) (Entry, error) {
	if len(b) < sumBytes {
		return Entry{}, errShort
	}
	body := b[:len(b)-sumBytes]
	if !sumIs(b[len(body):], bodySum(group, body)) {
		return Entry{}, errSum
	}
	return decodeBody(body)
}

func decodeBody(body []byte) (e Entry, err error) {
	r := pack.NewReader(body)
	fields, err := r.ArrayLen()
	if err != nil {
		return Entry{}, err
	}
	if fields != 4 {
		return Entry{}, fmt.Errorf("%d fields, want 4", fields)
	}
	if e.Version, err = readUint32(r, "version"); err != nil {
		return Entry{}, err
	}
	if e.Version != entryVersion {
		return Entry{}, fmt.Errorf("entry version %d, this program reads version %d", e.Version, entryVersion)
	}
	if e.Level, err = readUint32(r, "level"); err != nil {
		return Entry{}, err
	}
	if e.Time, err = r.Int(); err != nil {
		return Entry{}, fmt.Errorf("time: %w", err)
	}
	if e.Commands, err = readCommands(r); err != nil {
		return Entry{}, err
	}
	if r.Len() != 0 {
		return Entry{}, fmt.Errorf("%d bytes behind the entry", r.Len())
	}
	return e, nil
}

func readUint32(r *pack.Reader, what string) (uint32, error) {
	v, err := r.Uint()
	if err == nil && v > math.MaxUint32 {
		err = fmt.Errorf("%d does not fit 32 bits", v)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return uint32(v), nil
}

func readCommands(r *pack.Reader) ([][]byte, error) {
	n, err := r.ArrayLen() // at most the bytes that are there
	if err != nil {
		return nil, fmt.Errorf("commands: %w", err)
	}
	commands := make([][]byte, 0, min(n, maxBatchCommands))
	for i := range n {
		c, err := r.StringView()
		if err != nil {
			return nil, fmt.Errorf("command %d of %d: %w", i, n, err)
		}
		commands = append(commands, c[:len(c):len(c)])
	}
	r.Leave()
	return commands, nil
}

// frameSum is CRC-32C over all of a log entry that raft decides by: group, index, term, type and data. The leader's log
// store makes it, every store that reads the entry back and every replica that is sent it checks it. It travels in
// Extensions, which raft carries along and does not read.
func frameSum(group string, l *raft.Log) uint32 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Checksum([]byte(group), castagnoli())
	sum = crc32.Update(sum, castagnoli(), head[:])
	return crc32.Update(sum, castagnoli(), l.Data)
}

func seal(group string, l *raft.Log) {
	l.Extensions = binary.BigEndian.AppendUint32(nil, frameSum(group, l))
}

func checkSeal(group string, l *raft.Log) error {
	if len(l.Extensions) != sumBytes {
		return fmt.Errorf("entry %d of term %d: %w", l.Index, l.Term, errShort)
	}
	if !sumIs(l.Extensions, frameSum(group, l)) {
		return fmt.Errorf("entry %d of term %d: %w", l.Index, l.Term, errSum)
	}
	return nil
}
