package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// noLimit is the deadline of commands that run until they are told to stop.
const noLimit = 100 * 365 * 24 * time.Hour

// withUnlimited runs a verb without arguments until it ends or is interrupted.
func withUnlimited(verb func(c *cli.Context, s *session) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return usagef("%q: %s takes no arguments", c.Args().First(), c.Command.HelpName)
		}
		s, err := open(c, noLimit)
		if err != nil {
			return err
		}
		defer s.close()
		return verb(c, s)
	}
}

func eventsCommand(out *printer) *cli.Command {
	list := &cli.Command{
		Name: "list", Usage: "committed events, oldest first",
		Flags: readFlags(
			&cli.Uint64Flag{Name: "from", Value: 1, Usage: "first seq"},
			&cli.Uint64Flag{Name: "to", Usage: "last seq; 0 for the end"},
			&cli.StringFlag{Name: "type", Usage: "only this type, for example node_crashed"},
			&cli.UintFlag{Name: "limit", Value: 100, Usage: "at most this many; 0 for all"},
			&cli.StringFlag{Name: "events", EnvVars: []string{"GRID_EVENTS"}, Usage: "read event storage at host:port instead of the masters"},
		),
		Action: withReading(0, func(c *cli.Context, s *session, how transport.Reading) error { return listEvents(c, s, out, how) }),
	}
	tail := &cli.Command{
		Name: "tail", Usage: "events as they are committed, until interrupted; goes on at another master when one ends",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "from", Usage: "start at this seq, which may be still to come, instead of now"},
			&cli.StringSliceFlag{Name: "type", Usage: "only these types, for example node_crashed"},
			&cli.StringSliceFlag{Name: "entity", Usage: "only about these, for example node-7 or shard-0"},
			&cli.StringSliceFlag{Name: "kind", Usage: "only about agent, node, shard, master, txn, cluster or feed"},
			&cli.StringFlag{Name: "class", Usage: "only these classes: letters of L (lifecycle), D (decisions), T (telemetry)"},
		},
		Action: withUnlimited(func(c *cli.Context, s *session) error { return tailEvents(c, s, out) }),
	}
	return &cli.Command{Name: "events", Usage: "the feed: everything that happened, in order", Subcommands: []*cli.Command{list, tail}}
}

func typeFilter(name string) (event.Type, error) {
	if name == "" {
		return 0, nil
	}
	t, ok := event.TypeByName(name)
	if !ok {
		return 0, usagef("--type %q is not an event type, for example node_crashed", name)
	}
	return t, nil
}

func listEvents(c *cli.Context, s *session, out *printer, how transport.Reading) error {
	typ, err := typeFilter(c.String("type"))
	if err != nil {
		return err
	}
	limit := c.Uint("limit")
	page := transport.ListEvents{From: max(c.Uint64("from"), 1), To: c.Uint64("to"), Type: typ, Reading: how}
	source := masterEvents
	if c.String("events") != "" {
		source = storedEvents
	}
	printed := uint(0)
	for {
		page.Limit = 1000
		if limit > 0 {
			page.Limit = uint32(min(limit-printed, 1000))
		}
		envelopes, last, err := source(c, s, page)
		if err != nil {
			return err
		}
		for _, e := range envelopes {
			if err := out.event(e); err != nil {
				return err
			}
			printed++
		}
		end := last < page.From || page.To > 0 && last >= page.To
		if end || limit > 0 && printed >= limit {
			return nil
		}
		page.From = last + 1
	}
}

// masterEvents reads a page from the masters; last is the seq up to which it is complete.
func masterEvents(_ *cli.Context, s *session, page transport.ListEvents) ([]*event.Envelope, uint64, error) {
	r, err := ask[transport.EventsOk](s, &page)
	if err != nil {
		return nil, 0, err
	}
	envelopes, err := decodeEvents(r)
	return envelopes, r.Last, err
}

func decodeEvents(r *transport.EventsOk) ([]*event.Envelope, error) {
	var all []*event.Envelope
	for _, b := range r.Events {
		e, err := event.DecodeEnvelope(b)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// storedEvents reads a page from event storage, which needs no master: events are concepts named by their seq.
func storedEvents(c *cli.Context, s *session, page transport.ListEvents) ([]*event.Envelope, uint64, error) {
	var batch transport.Batch
	for seq := page.From; seq < page.From+uint64(page.Limit) && (page.To == 0 || seq <= page.To); seq++ {
		batch.Requests = append(batch.Requests, transport.Any{Value: &transport.QueryConcept{ConceptID: event.ConceptID(seq)}})
	}
	r, err := transport.Call[transport.BatchOk](s.ctx, s.pool, c.String("events"), &batch)
	if err != nil {
		return nil, 0, err
	}
	var all []*event.Envelope
	last := page.From - 1
	for _, any := range r.Replies {
		q, ok := any.Value.(*transport.QueryConceptOk)
		if !ok {
			return nil, 0, unexpected(&transport.QueryConcept{}, any.Value)
		}
		if !q.Found {
			return all, last, nil
		}
		e, err := event.FromJSON([]byte(q.Content))
		if err != nil {
			return nil, 0, fmt.Errorf("event %d in event storage: %w", last+1, err)
		}
		if page.Type == 0 || e.Type == page.Type {
			all = append(all, e)
		}
		last++
	}
	return all, last, nil
}

// tailFilter is what the flags of tail choose.
func tailFilter(c *cli.Context) (event.Filter, error) {
	f := event.Filter{Classes: strings.ToUpper(c.String("class")), Kinds: c.StringSlice("kind"), Entities: c.StringSlice("entity")}
	for _, name := range c.StringSlice("type") {
		t, err := typeFilter(name)
		if err != nil {
			return f, err
		}
		f.Types = append(f.Types, t)
	}
	if err := f.Validate(); err != nil {
		return f, usageError{err}
	}
	return f, nil
}

func tailEvents(c *cli.Context, s *session, out *printer) error {
	filter, err := tailFilter(c)
	if err != nil {
		return err
	}
	sdk, err := s.store()
	if err != nil {
		return err
	}
	defer sdk.Close()
	err = sdk.WatchEvents(s.ctx, client.EventPosition{Seq: c.Uint64("from")}, filter, func(step client.Events) error {
		for _, e := range step.Events {
			if err := out.event(e); err != nil {
				return err
			}
		}
		return nil
	})
	if oldest, missed, trimmed := client.Oldest(err); trimmed {
		return fmt.Errorf("%w; that is `gridctl events list --from %d --to %d --events HOST:PORT`, then `gridctl events tail --from %d`", err, missed, oldest-1, oldest)
	}
	return err // nil when interrupted: the normal end of tail
}

// event prints one event: a line for people, a JSON object a line for programs.
func (p *printer) event(e *event.Envelope) error {
	if p.json() {
		b, err := event.JSON(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.w, string(json.RawMessage(b)))
		return err
	}
	return p.eventLine(e)
}

func (p *printer) eventLine(e *event.Envelope) error {
	cause := ""
	if e.Cause > 0 {
		cause = fmt.Sprintf("  (because of %d)", e.Cause)
	}
	at := time.UnixMicro(e.Time).Local().Format("2006-01-02 15:04:05.000")
	_, err := io.WriteString(p.w, fmt.Sprintf("%8d  %s  %-22s %s%s\n", e.Seq, at, e.Type, event.Info(e.Type).Describe(e.Body), cause))
	return err
}
