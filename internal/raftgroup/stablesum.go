package raftgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// A value of the small databases ends with a mark and a CRC-32C over key, 0 and value (safety S26 asks it of entries; a page of
// bbolt has none). A program of before reads such a number rightly, since it takes the first 8 bytes, and of such a vote the
// term; the candidate it does not know again, so that it refuses to repeat the vote, which is safe. What that program writes has
// no sum and is still read: a number of 8 bytes, a candidate of printable characters, which the mark is not.
const (
	sumMark = "\x00\xff"
	sumSize = len(sumMark) + 4
)

var errValue = errors.New("the value is damaged")

func withSum(key string, value []byte) []byte {
	out := append(append(make([]byte, 0, len(value)+sumSize), value...), sumMark...)
	return binary.BigEndian.AppendUint32(out, valueSum(key, value))
}

func valueSum(key string, value []byte) uint32 {
	sum := crc32.Update(crc32.Checksum([]byte(key), castagnoli()), castagnoli(), []byte{0})
	return crc32.Update(sum, castagnoli(), value)
}

// withoutSum checks a stored value. The result shares raw's memory.
func withoutSum(key string, raw []byte) ([]byte, error) {
	if n := len(raw) - sumSize; n >= 8 && string(raw[n:][:len(sumMark)]) == sumMark {
		if binary.BigEndian.Uint32(raw[n+len(sumMark):]) != valueSum(key, raw[:n]) {
			return nil, fmt.Errorf("key %s: %w: %w", key, errValue, errSum)
		}
		return raw[:n:n], nil
	}
	if key == keyVote && len(raw) > 8 && isText(raw[8:]) || key != keyVote && len(raw) == 8 {
		return raw, nil
	}
	return nil, fmt.Errorf("key %s: %w: %d bytes that are neither with a checksum nor of an older version", key, errValue, len(raw))
}

func isText(b []byte) bool {
	return bytes.IndexByte(b, sumMark[0]) < 0 && bytes.IndexByte(b, sumMark[1]) < 0
}

// summedStable keeps values with their sums in a store below.
type summedStable struct{ *raftboltdb.BoltStore }

// Set implements raft.StableStore.
func (s summedStable) Set(key, value []byte) error {
	return s.BoltStore.Set(key, withSum(string(key), value))
}

// SetUint64 implements raft.StableStore.
func (s summedStable) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// Get implements raft.StableStore.
func (s summedStable) Get(key []byte) ([]byte, error) {
	raw, err := s.BoltStore.Get(key)
	if err != nil {
		return nil, err // raft compares the text of "not found", unwrapped
	}
	return withoutSum(string(key), raw)
}

// GetUint64 implements raft.StableStore.
func (s summedStable) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("key %s: %w: a number of %d bytes", key, errValue, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

var _ raft.StableStore = summedStable{}
