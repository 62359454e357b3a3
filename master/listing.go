package master

import (
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// listing gathers one page of events.
type listing struct {
	next   uint64 // everything below was taken or filtered
	to     uint64 // inclusive
	left   int    // events that still fit
	bytes  int
	want   event.Type // 0: all
	events [][]byte
}

// open tells whether more can be taken.
func (l *listing) open() bool { return l.next <= l.to && l.left > 0 && l.bytes < listBytes }

// take adds what fits of records that begin at next.
func (l *listing) take(records []fsm.Record) {
	for _, r := range records {
		if !l.open() {
			return
		}
		l.next = r.Seq + 1
		if l.want != 0 && r.Type != l.want {
			continue
		}
		l.events = append(l.events, r.Bytes)
		l.left--
		l.bytes += len(r.Bytes)
	}
}
