package workload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// feedPage is how many events are read at once.
const feedPage = 500

// feedReader reads the feed where it is held: with every master, as far as it keeps it, and in event storage.
type feedReader struct {
	pool    *transport.Pool
	masters []string
	storage string
}

// newest is the last event that the masters have committed.
func (f feedReader) newest(ctx context.Context) (uint64, error) {
	ok, err := transport.As[transport.FeedStatus](transport.NewMasters(f.masters, f.pool).Call(ctx, &transport.GetFeed{}))
	if err != nil {
		return 0, err
	}
	return ok.Seq, nil
}

// shipped waits until the leader says that event storage holds the feed through an event.
func (f feedReader) shipped(ctx context.Context, through uint64) error {
	masters := transport.NewMasters(f.masters, f.pool)
	for {
		ok, err := transport.As[transport.FeedStatus](masters.Call(ctx, &transport.GetFeed{}))
		lag := "nobody says how far it is"
		if err == nil {
			lag = "there is none"
			for _, s := range ok.Sinks {
				if s.Class != sinkOfGrid {
					continue
				}
				if s.Through >= through {
					return nil
				}
				lag = fmt.Sprintf("it holds %d: %s %s", s.Through, s.State, s.Error)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("event storage does not come to event %d; %s: %w", through, lag, errors.Join(err, context.Cause(ctx)))
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// master hands over what a master holds of the feed between two events, both included. What it no longer keeps is left out at the beginning.
func (f feedReader) master(ctx context.Context, address string, from, to uint64, take func(history.FeedEvent)) error {
	var before *event.Chain
	for from <= to {
		req := &transport.ListEvents{From: from, To: min(to, from+feedPage-1), Limit: feedPage, Reading: transport.Reading{Consistency: transport.Stale, MinSeq: to}}
		ok, err := transport.As[transport.EventsOk](f.retried(ctx, address, req))
		var e *event.Error
		if errors.As(err, &e) && e.Kind == event.KindTrimmed && e.Oldest > from && before == nil {
			from = e.Oldest
			continue
		}
		if err != nil {
			return fmt.Errorf("feed of %s from event %d: %w", address, from, err)
		}
		for _, b := range ok.Events {
			e, err := event.DecodeEnvelope(b)
			if err != nil {
				return fmt.Errorf("feed of %s behind event %d: %w", address, from, err)
			}
			text, err := event.JSON(e)
			if err != nil {
				return err
			}
			take(feedEvent(address, e, text, &before))
		}
		if ok.Last < from {
			return fmt.Errorf("feed of %s: asked from event %d, it ends at %d", address, from, ok.Last)
		}
		from = ok.Last + 1
	}
	return nil
}

// stored hands over what event storage holds of the feed between two events, both included. What it does not hold is left out.
func (f feedReader) stored(ctx context.Context, from, to uint64, take func(history.FeedEvent)) error {
	var before *event.Chain
	for ; from <= to; from += feedPage {
		var batch transport.Batch
		for seq := from; seq <= min(to, from+feedPage-1); seq++ {
			batch.Requests = append(batch.Requests, transport.Any{Value: &transport.QueryConcept{ConceptID: event.ConceptID(seq)}})
		}
		ok, err := transport.As[transport.BatchOk](f.retried(ctx, f.storage, &batch))
		if err != nil {
			return fmt.Errorf("events from %d in event storage: %w", from, err)
		}
		for _, reply := range ok.Replies {
			c, is := reply.Value.(*transport.QueryConceptOk)
			if !is {
				return fmt.Errorf("events from %d in event storage: %v", from, reply.Value)
			}
			if !c.Found {
				continue
			}
			e, err := event.FromJSON([]byte(c.Content))
			if err != nil {
				return fmt.Errorf("%s in event storage: %w", c.ConceptID, err)
			}
			take(feedEvent(history.SourceStorage, e, []byte(c.Content), &before))
		}
	}
	return nil
}

// retried sends what only reads until it is answered for good, or ctx ends.
func (f feedReader) retried(ctx context.Context, address string, req any) (any, error) {
	for {
		one, cancel := context.WithTimeout(ctx, attemptLimit)
		reply, err := f.pool.Call(one, address, req)
		cancel()
		var e *event.Error
		if err == nil || errors.As(err, &e) && e.Kind == event.KindTrimmed || ctx.Err() != nil {
			return reply, err
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// feedEvent is an event as its source holds it; before is the chain value of the one before, if there was one.
func feedEvent(source string, e *event.Envelope, text []byte, before **event.Chain) history.FeedEvent {
	sum := sha256.Sum256(text)
	f := history.FeedEvent{Source: source, Seq: e.Seq, Type: e.Type.String(), Sum: hex.EncodeToString(sum[:8]), Chain: hex.EncodeToString(e.Chain[:8])}
	if *before != nil {
		if err := event.Verify(**before, e); err != nil {
			f.Fault = err.Error()
		}
	}
	chain := e.Chain
	*before = &chain
	switch b := e.Body.(type) {
	case event.TxnCommitted:
		f.Txn = b.TxnID.String()
	case event.TxnAborted:
		f.Txn, f.Final = b.TxnID.String(), b.Final
	case event.LeaderElected:
		f.Term, f.Leader = b.Term, string(b.MasterID)
	}
	return f
}
