package client

import (
	"context"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// StartFakeGrid is a small grid for examples, the fake of the tests: two shards, and a feed with two events.
func StartFakeGrid() (masters []string, network transport.Network, stop func()) {
	g := newFakeGrid(panics{}, 2, 2)
	return []string{fakeMaster}, g.network, g.close
}

type panics struct{}

func (panics) Fatal(args ...any) { panic(args) }

// fakeFeed is a feed of two events.
func fakeFeed(ctx context.Context, s *transport.Session, from uint64) error {
	page := &transport.EventsOk{Incarnation: event.Incarnation{N: 1}, Last: 2}
	for seq, body := range []event.Body{event.SettingChanged{Key: "vectors.dimension", Value: "768"}, event.LevelRaised{To: 2}} {
		if seq := uint64(seq) + 1; seq >= from {
			e := &event.Envelope{Seq: seq, Type: body.Type(), Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), Body: body}
			b, err := event.Seal(nil, event.Chain{}, e)
			if err != nil {
				return err
			}
			page.Events = append(page.Events, b)
		}
	}
	if err := s.Send(ctx, page); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}
