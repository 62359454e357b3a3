package raftgroup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// A snapshot is a folder of two files that raft writes: what it says about it, and the content with our chunks.
const (
	snapshotMetaFile    = "meta.json"
	snapshotContentFile = "state.bin"
	maxSnapshotMeta     = 1 << 20 // bytes
)

// SnapshotInfo is what a snapshot says about itself.
type SnapshotInfo struct {
	ID, Dir     string
	Index, Term uint64    // of the last entry it includes
	Taken       time.Time // to the millisecond; zero: the folder's name does not say
	Size        int64     // of its content, bytes
	Members     []Member  // the configuration at Index
	MembersAt   uint64    // the entry that the configuration came with

	sum []byte // CRC-64 of the content, as raft wrote it
}

// snapshotMeta is meta.json as raft writes it.
type snapshotMeta struct {
	raft.SnapshotMeta
	CRC []byte
}

// Snapshots lists what is in the snapshots' folder, newest first. One whose meta.json is damaged, or that was never
// completed, is among the problems instead.
func (i *Inspection) Snapshots() (all []SnapshotInfo, problems []error) {
	dir := filepath.Join(i.dir, snapshotDir)
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, []error{err}
	}
	for _, f := range found {
		path := filepath.Join(dir, f.Name())
		if !f.IsDir() {
			continue
		}
		if strings.HasSuffix(f.Name(), ".tmp") {
			problems = append(problems, fmt.Errorf("%s was not completed; the replica removes it when it starts", path))
			continue
		}
		s, err := ReadSnapshotInfo(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b SnapshotInfo) int { return strings.Compare(b.order(), a.order()) })
	return all, problems
}

// order sorts snapshots as raft does: by term, index and name.
func (s *SnapshotInfo) order() string { return fmt.Sprintf("%020d %020d %s", s.Term, s.Index, s.ID) }

// ReadSnapshotInfo reads what the snapshot in a folder says about itself, and checks it as far as it goes without the
// content.
func ReadSnapshotInfo(dir string) (SnapshotInfo, error) {
	path := filepath.Join(dir, snapshotMetaFile)
	f, err := os.Open(path)
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer f.Close() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxSnapshotMeta))
	if err != nil {
		return SnapshotInfo{}, err
	}
	m, err := decodeSnapshotMeta(b)
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	s := SnapshotInfo{
		ID: m.ID, Dir: dir, Index: m.Index, Term: m.Term, Size: m.Size,
		Members: membersOf(m.Configuration), MembersAt: m.ConfigurationIndex, sum: m.CRC,
	}
	var term, index uint64
	var milli int64
	if n, err := fmt.Sscanf(m.ID, "%d-%d-%d", &term, &index, &milli); err == nil && n == 3 {
		s.Taken = time.UnixMilli(milli).UTC()
	}
	if name := filepath.Base(dir); m.ID != fmt.Sprintf("%d-%d-%d", m.Term, m.Index, milli) {
		return s, fmt.Errorf("%s: it is named %q and says it is of term %d, index %d", path, m.ID, m.Term, m.Index)
	} else if strings.Count(name, "-") == 2 && name != m.ID {
		return s, fmt.Errorf("%s: it says it is snapshot %s", path, m.ID)
	}
	return s, nil
}

// decodeSnapshotMeta reads meta.json. It has no checksum, so it is compared with how it would be written again, and with
// what it says twice.
func decodeSnapshotMeta(b []byte) (m snapshotMeta, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("offset %d: %w", dec.InputOffset(), err)
	}
	var again bytes.Buffer
	if err := json.NewEncoder(&again).Encode(&m); err != nil {
		return m, err
	}
	if at := firstDifference(b, again.Bytes()); at >= 0 {
		return m, fmt.Errorf("offset %d: not as it was written", at)
	}
	for _, s := range m.Configuration.Servers {
		if string(s.ID) != string(s.Address) || s.Suffrage > raft.Staging {
			return m, fmt.Errorf("member %q with address %q and suffrage %d: not as it was written", s.ID, s.Address, s.Suffrage)
		}
	}
	if m.ConfigurationIndex > m.Index {
		return m, fmt.Errorf("a configuration of entry %d in a snapshot that ends at %d", m.ConfigurationIndex, m.Index)
	}
	return m, checkPeers(m)
}

// checkPeers compares the voters with raft's older list of them.
func checkPeers(m snapshotMeta) error {
	var voters []string
	for _, s := range m.Configuration.Servers {
		if s.Suffrage == raft.Voter {
			voters = append(voters, string(s.Address))
		}
	}
	r := pack.NewReader(m.Peers)
	n, err := r.ArrayLen()
	var peers []string
	for ; err == nil && n > 0; n-- {
		var p []byte
		if p, err = r.StringView(); err == nil {
			peers = append(peers, string(p))
		}
	}
	if err != nil || r.Len() > 0 || !slices.Equal(voters, peers) {
		return fmt.Errorf("its voters are %q in one place and %q in another (%w)", voters, peers, err)
	}
	return nil
}

// firstDifference is the first place where a and b differ; -1: nowhere.
func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// SnapshotContent reads a snapshot's content, checked chunk by chunk; an error names the file and the offset of the chunk.
type SnapshotContent struct {
	Path     string
	Level    uint32 // of the vocabulary when it was taken
	Index    uint64 // the last entry it includes
	FSMIndex uint64 // the last of them that the state machine was given
	Time     int64  // of the last entry, µs UTC
	Kept     bool   // the state itself is in the state machine's own store; this is a record of it

	f      *os.File
	at     *countingReader
	chunks *chunkReader
	start  int64 // of the present chunk
}

// OpenSnapshotContent opens the content of group's snapshot: its folder, or the file in it.
func OpenSnapshotContent(path, group string) (*SnapshotContent, error) {
	if stat, err := os.Stat(path); err != nil {
		return nil, err
	} else if stat.IsDir() {
		path = filepath.Join(path, snapshotContentFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &SnapshotContent{Path: path, f: f, at: &countingReader{r: f}}
	chunks, h, err := newChunkReader(s.at, group)
	if err != nil {
		return nil, errors.Join(s.wrap(err), f.Close())
	}
	s.chunks, s.Level, s.Index, s.FSMIndex, s.Time, s.Kept = chunks, h.Level, h.Index, h.FSMIndex, h.Time, h.Kept
	return s, nil
}

// Read implements io.Reader. io.EOF means that all of the content was there, and nothing behind it.
func (s *SnapshotContent) Read(p []byte) (int, error) {
	for len(s.chunks.rest) == 0 {
		if s.chunks.err == nil {
			s.start = s.at.n
			s.chunks.next()
		}
		if s.chunks.err == io.EOF {
			return 0, s.end()
		}
		if s.chunks.err != nil {
			return 0, s.wrap(s.chunks.err)
		}
	}
	n := copy(p, s.chunks.rest)
	s.chunks.rest = s.chunks.rest[n:]
	return n, nil
}

func (s *SnapshotContent) end() error {
	var one [1]byte
	if n, _ := s.f.ReadAt(one[:], s.at.n); n > 0 {
		s.start = s.at.n
		return s.wrap(errors.New("there is something behind the last chunk"))
	}
	return io.EOF
}

func (s *SnapshotContent) wrap(err error) error {
	return fmt.Errorf("%s: offset %d: %w", s.Path, s.start, err)
}

// Close closes the file.
func (s *SnapshotContent) Close() error { return s.f.Close() }

// CheckSnapshot compares a snapshot's two files with one another and every chunk with its checksum. It returns all that is
// wrong, each with its file and offset.
func CheckSnapshot(dir, group string) (problems []error) {
	info, err := ReadSnapshotInfo(dir)
	if err != nil {
		problems = append(problems, err)
	}
	content, err := OpenSnapshotContent(dir, group)
	if err != nil {
		return append(problems, err)
	}
	defer content.Close() // read only
	if _, err := io.Copy(io.Discard, content); err != nil {
		problems = append(problems, err)
	}
	if info.ID == "" {
		return problems
	}
	meta := filepath.Join(dir, snapshotMetaFile)
	if info.Index < content.Index { // it may be behind: a barrier is an entry and changes no state
		problems = append(problems, fmt.Errorf("%s: it ends at entry %d, its content at %d", meta, info.Index, content.Index))
	}
	return append(problems, content.compare(meta, info)...)
}

// compare checks the content's size and its sum over all.
func (s *SnapshotContent) compare(meta string, info SnapshotInfo) []error {
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	size, err := io.Copy(sum, io.NewSectionReader(s.f, 0, 1<<62))
	switch {
	case err != nil:
		return []error{fmt.Errorf("%s: offset %d: %w", s.Path, size, err)}
	case size != info.Size:
		return []error{fmt.Errorf("%s: %d bytes, %s says %d", s.Path, size, meta, info.Size)}
	case !bytes.Equal(sum.Sum(nil), info.sum):
		return []error{fmt.Errorf("%s: the checksum of the whole is not the one in %s", s.Path, meta)}
	}
	return nil
}

// countingReader counts what was read.
type countingReader struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
