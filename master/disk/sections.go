package disk

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A snapshot is a sequence of sections, so that readers of one cannot run into the next:
//
//	section = { u32 length > 0, bytes }* , u32 0
//
// Its checksums are the raft group's.
const maxChunk = 64 << 10

// SectionWriter writes one section; Close ends it and does not close what is below. It is not safe for concurrent use.
type SectionWriter struct {
	w   io.Writer
	buf []byte
}

// NewSectionWriter begins a section on w.
func NewSectionWriter(w io.Writer) *SectionWriter {
	return &SectionWriter{w: w, buf: make([]byte, 4, 4+maxChunk)}
}

// Write gathers chunks.
func (s *SectionWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, p[:take]...)
		p = p[take:]
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Close writes what is gathered and the end mark.
func (s *SectionWriter) Close() error {
	if len(s.buf) > 4 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *SectionWriter) flush() error {
	binary.BigEndian.PutUint32(s.buf, uint32(len(s.buf)-4))
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:4]
	return err
}

// SectionReader reads one section and then returns io.EOF. It is not safe for concurrent use.
type SectionReader struct {
	r    io.Reader
	left uint32 // of the present chunk
	done bool
}

// NewSectionReader reads the section that r is at.
func NewSectionReader(r io.Reader) *SectionReader { return &SectionReader{r: r} }

// Read never reads beyond the section.
func (s *SectionReader) Read(p []byte) (int, error) {
	if s.left == 0 && !s.done {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if s.done {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(len(p), int(s.left))])
	s.left -= uint32(n)
	if err == io.EOF {
		err = nil
		if n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (s *SectionReader) next() error {
	var head [4]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return fmt.Errorf("read the head of a snapshot chunk: %w", err)
	}
	s.left = binary.BigEndian.Uint32(head[:])
	s.done = s.left == 0
	if s.left > maxChunk {
		return fmt.Errorf("a snapshot chunk of %d bytes; at most %d are written", s.left, maxChunk)
	}
	return nil
}

// SkipRest reads to the section's end, so that the next one can begin.
func (s *SectionReader) SkipRest() error {
	_, err := io.Copy(io.Discard, s)
	return err
}
