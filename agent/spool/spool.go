// Package spool keeps an agent's lifecycle events on disk until the masters have committed them.
//
//	Put (numbered by the caller, fsynced) -> DIR/<number>.event -> Batch -> masters -> Ack(through) -> files removed
//
// Invariants: an event counts as spooled when Put has returned, and then outlives a crash (safety S28); numbers have no
// gap, so the masters can tell a lost event from one sent twice (safety S5); nothing is dropped: a spool without room
// says so beforehand (Room), and its owner does not begin what would need it. It imports nothing of ours but
// internal/datadir, the fault points and the messages it hands out.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Limit is how many events a spool holds. Each is a file and a fsync, and all are in memory: at 4 KiB of standard error each,
// 1,024 are 4 MiB. Fewer would be used up by a handful of nodes that crash while no master can be reached; more would only
// postpone the moment at which an operator has to look.
const Limit = 1024

// suffix of an event's file; the name before it is the number with 20 digits, so that names sort as numbers do.
const suffix = ".event"

// Spool is a directory of events. Its methods may be called from any goroutine.
type Spool struct {
	dir string

	mu      sync.Mutex
	first   uint64 // number of the oldest event kept
	events  []transport.EmittedEvent
	changed chan struct{} // closed and replaced when events come or go
}

// Open reads what an earlier run left. last is the number of the last event that was ever put, 0 for none.
func Open(dir string, last uint64) (*Spool, error) {
	if err := datadir.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	numbers, err := list(dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, first: last + 1, changed: make(chan struct{})}
	for i, n := range numbers {
		if i == 0 {
			s.first = n
		}
		if n != s.first+uint64(i) {
			return nil, fmt.Errorf("open spool %s: event %d is missing before event %d; restore it or start the agent with a new data directory", dir, s.first+uint64(i), n)
		}
		e, err := read(s.path(n))
		if err != nil {
			return nil, err
		}
		s.events = append(s.events, e)
	}
	if next := s.next(); next > last+1 {
		return nil, fmt.Errorf("open spool %s: it holds event %d, but the last one recorded is %d; the data directory was put together from two copies", dir, next-1, last)
	}
	return s, nil
}

func list(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	var numbers []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue // what a crash left of an atomic write
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("open spool: %s is not named by a number", filepath.Join(dir, e.Name()))
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *Spool) path(n uint64) string { return filepath.Join(s.dir, fmt.Sprintf("%020d%s", n, suffix)) }

func (s *Spool) next() uint64 { return s.first + uint64(len(s.events)) }

// Put adds the event with this number, which is the one behind the last; an event that is there already changes nothing.
// An event whose number was acknowledged long ago may be put again if the spool is empty: the masters know its number.
func (s *Spool) Put(number uint64, e transport.EmittedEvent) error {
	s.mu.Lock()
	next, empty := s.next(), len(s.events) == 0
	s.mu.Unlock()
	switch {
	case number < next && !empty:
		return nil
	case number != next && !(empty && number+1 == next):
		return fmt.Errorf("spool event %d: the next one is %d", number, next)
	}
	// Not under the lock: only one goroutine puts, and readers need not wait for the disk.
	if err := fault.Err(fault.SpoolPut); err != nil {
		return fmt.Errorf("spool event %d: %w", number, err)
	}
	if err := datadir.WriteFileAtomic(s.path(number), encode(e), 0o644); err != nil {
		return fmt.Errorf("spool event %d: %w", number, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		s.first = number
	}
	s.events = append(s.events, e)
	s.wakeLocked()
	return nil
}

func (s *Spool) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Batch gives the oldest events, at most count and, beyond the first, at most size bytes of bodies; none is an empty batch.
// changed is closed when events come or go afterwards.
func (s *Spool) Batch(count, size int) (first uint64, events []transport.EmittedEvent, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := 0, 0
	for n < min(count, len(s.events)) {
		if bytes += len(s.events[n].Body); n > 0 && bytes > size {
			break
		}
		n++
	}
	return s.first, slices.Clone(s.events[:n]), s.changed
}

// Ack removes the events up to through. The order does not matter for safety: an event that is sent again is told
// "already" by its number.
func (s *Spool) Ack(through uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.events) > 0 && s.first <= through {
		if err := fault.Err(fault.SpoolAck); err != nil {
			return fmt.Errorf("remove acknowledged event %d: %w", s.first, err)
		}
		if err := os.Remove(s.path(s.first)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove acknowledged event %d: %w", s.first, err)
		}
		s.events[0] = transport.EmittedEvent{} // free its body
		s.first, s.events = s.first+1, s.events[1:]
		s.wakeLocked()
	}
	return nil
}

// Room is how many more events can be put.
func (s *Spool) Room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, Limit-len(s.events))
}

// File format: type u16, body, CRC-32C over both, big-endian.
const (
	typeBytes = 2
	sumBytes  = 4
)

func encode(e transport.EmittedEvent) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, typeBytes+len(e.Body)+sumBytes), uint16(e.Type))
	b = append(b, e.Body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func decode(b []byte) (transport.EmittedEvent, error) {
	if len(b) < typeBytes+sumBytes {
		return transport.EmittedEvent{}, fmt.Errorf("%d bytes, want at least %d", len(b), typeBytes+sumBytes)
	}
	content, sum := b[:len(b)-sumBytes], binary.BigEndian.Uint32(b[len(b)-sumBytes:])
	if got := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		return transport.EmittedEvent{}, fmt.Errorf("checksum is %08x, want %08x", got, sum)
	}
	return transport.EmittedEvent{Type: event.Type(binary.BigEndian.Uint16(content)), Body: content[typeBytes:]}, nil
}

func read(path string) (transport.EmittedEvent, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return transport.EmittedEvent{}, fmt.Errorf("open spool: %w", err)
	}
	e, err := decode(b)
	if err != nil {
		return e, fmt.Errorf("open spool: %s is damaged: %w", path, err)
	}
	return e, nil
}
