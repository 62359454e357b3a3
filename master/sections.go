package master

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

// sectionWriter writes one section; Close ends it and does not close what is below.
type sectionWriter struct {
	w   io.Writer
	buf []byte
}

func newSectionWriter(w io.Writer) *sectionWriter {
	return &sectionWriter{w: w, buf: make([]byte, 4, 4+maxChunk)}
}

// Write gathers chunks.
func (s *sectionWriter) Write(p []byte) (int, error) {
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
func (s *sectionWriter) Close() error {
	if len(s.buf) > 4 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *sectionWriter) flush() error {
	binary.BigEndian.PutUint32(s.buf, uint32(len(s.buf)-4))
	_, err := s.w.Write(s.buf)
	s.buf = s.buf[:4]
	return err
}

// sectionReader reads one section and then returns io.EOF.
type sectionReader struct {
	r    io.Reader
	left uint32 // of the present chunk
	done bool
}

// Read never reads beyond the section.
func (s *sectionReader) Read(p []byte) (int, error) {
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

func (s *sectionReader) next() error {
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

// skipRest reads to the section's end, so that the next one can begin.
func (s *sectionReader) skipRest() error {
	_, err := io.Copy(io.Discard, s)
	return err
}
