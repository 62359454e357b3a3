package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Range returns the events from seq on, in order: at most limit, and at most maxBytes of encoded events but always one if
// there is one. Nothing there yet is an empty result; below First is ErrTrimmed.
func (o *Outbox) Range(from uint64, limit, maxBytes int) ([]fsm.Record, error) {
	var out []fsm.Record
	err := o.read(func(b bounds) error {
		out = nil
		switch {
		case from < b.first:
			return fmt.Errorf("%w: the oldest is %d", ErrTrimmed, b.first)
		case from > b.last || limit <= 0:
			return nil
		}
		size := 0
		return b.scan(o.db, from, b.last, func(e entry) bool {
			if len(out) > 0 && size+len(e.Bytes) > maxBytes {
				return false
			}
			size += len(e.Bytes)
			out = append(out, e.copied())
			return len(out) < limit
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read events from %d: %w", from, err)
	}
	return out, nil
}

// Size is the encoded length of the events from one seq through another, in bytes; ErrTrimmed when the first is below First.
func (o *Outbox) Size(from, through uint64) (size uint64, err error) {
	err = o.read(func(b bounds) error {
		if from < b.first {
			return fmt.Errorf("%w: the oldest is %d", ErrTrimmed, b.first)
		}
		size = 0
		return b.scan(o.db, from, through, func(e entry) bool {
			size += uint64(len(e.Bytes))
			return true
		})
	})
	if err != nil {
		return 0, fmt.Errorf("measure events %d to %d: %w", from, through, err)
	}
	return size, nil
}

// read calls fn with what the outbox holds. When fn misses an event that was removed meanwhile it is called again: a removal is in the store
// before it is in the bounds.
func (o *Outbox) read(fn func(bounds) error) error {
	for {
		b, before := o.held()
		err := fn(b)
		if !errors.Is(err, errMissing) {
			return err
		}
		o.marking.Lock() // behind a removal that is under way
		_, now := o.held()
		o.marking.Unlock()
		if now == before {
			return err
		}
	}
}

// Last is the seq of the newest event; First-1 when there is none.
func (o *Outbox) Last() uint64 { return o.bounds().last }

// First is the seq of the oldest event kept, or of the next one expected when there is none.
func (o *Outbox) First() uint64 { return o.bounds().first }

// Bytes is the size of the encoded events kept.
func (o *Outbox) Bytes() int64 { return int64(o.bounds().bytes) }

// Base is the chain value right before First; false only while the outbox is empty and its past unknown.
func (o *Outbox) Base() (event.Chain, bool) {
	b := o.bounds()
	return b.base, b.baseKnown
}

// chainAt is the chain value behind an event, or right before the first; ErrTrimmed below, errMissing above the last.
func (o *Outbox) chainAt(seq uint64) (chain event.Chain, err error) {
	if seq == 0 {
		return event.Chain{}, nil
	}
	err = o.read(func(b bounds) (err error) {
		switch {
		case seq+1 < b.first || seq+1 == b.first && !b.baseKnown:
			return fmt.Errorf("%w: the oldest event is %d", ErrTrimmed, b.first)
		case seq > b.last:
			return fmt.Errorf("%w: the newest event is %d", errMissing, b.last)
		}
		chain, err = b.chainAt(o.db, seq)
		return err
	})
	if err != nil {
		return event.Chain{}, fmt.Errorf("read the chain at %d: %w", seq, err)
	}
	return chain, nil
}

// Time is when an event was recorded, unix µs; ErrTrimmed below First.
func (o *Outbox) Time(seq uint64) (at int64, err error) {
	err = o.read(func(b bounds) error {
		if seq < b.first {
			return fmt.Errorf("%w: the oldest is %d", ErrTrimmed, b.first)
		}
		e, err := b.load(o.db, seq)
		at = e.time
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read event %d: %w", seq, err)
	}
	return at, nil
}

// Applied is the raft index of the newest entry whose events are here.
func (o *Outbox) Applied() uint64 { return o.bounds().applied }

// Wait returns when Last is at least seq, with ctx's error when that ends first, and ErrClosed after Close.
func (o *Outbox) Wait(ctx context.Context, seq uint64) error {
	for {
		o.mu.Lock()
		if o.closed {
			o.mu.Unlock()
			return ErrClosed
		}
		if o.b.last >= seq {
			o.mu.Unlock()
			return nil
		}
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (o *Outbox) bounds() bounds {
	b, _ := o.held()
	return b
}

// held is what the outbox holds, and how often something was removed from it.
func (o *Outbox) held() (b bounds, removals uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b, o.removals
}
