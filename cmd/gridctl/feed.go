package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// feedCommand is the feed's way into event storage: the sinks, and the outbox in front of them.
func feedCommand(out *printer) *cli.Command {
	return &cli.Command{Name: "feed", Usage: "how the events get into event storage", Subcommands: []*cli.Command{
		feedStatus(out), feedSinks(out), feedQuota(out),
	}}
}

func feedStatus(out *printer) *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "how far each sink is, and how full the outbox",
		Action: withSession(0, func(_ *cli.Context, s *session) error {
			r, err := ask[transport.FeedStatus](s, &transport.GetFeed{})
			if err != nil {
				return err
			}
			r.Sinks = orEmpty(r.Sinks)
			return out.show(r, func(w io.Writer) { showFeed(w, r) })
		}),
	}
}

func showFeed(w io.Writer, r *transport.FeedStatus) {
	o := r.Outbox
	fmt.Fprintf(w, "outbox   events %d to %d, %s\n", o.First, o.Last, mib(o.Bytes))
	fmt.Fprintf(w, "unsent   %d events, %s of %s (%d %%)\n", o.Unsent, mib(o.UnsentBytes), mib(o.QuotaBytes), o.UsedPercent)
	fmt.Fprintf(w, "lost     %d telemetry events dropped, %d commands refused\n\n", r.Dropped, r.Refused)
	var lines [][]any
	for _, k := range r.Sinks {
		lag := "none"
		if k.LagEvents > 0 {
			lag = fmt.Sprintf("%d events, %v", k.LagEvents, (time.Duration(k.LagMillis) * time.Millisecond).Round(100*time.Millisecond))
		}
		lines = append(lines, []any{k.Sink, k.Address, k.Class, k.State, k.Through, lag, dash(k.SinkID), dash(k.Error)})
	}
	rows(w, []any{"SINK", "ADDRESS", "CLASS", "STATE", "HOLDS", "BEHIND", "STORE", "ERROR"}, lines)
}

func mib(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func feedSinks(out *printer) *cli.Command {
	add := &cli.Command{
		Name: "add", Usage: "ship the feed to another server of the storage protocol, or to a known sink's new address", ArgsUsage: "SINK ADDRESS",
		Flags: []cli.Flag{&cli.StringFlag{Name: "class", Value: "extern", Usage: "grid (the grid's own event storage) or extern"}},
		Action: withSession(2, func(c *cli.Context, s *session) error {
			name, address := c.Args().Get(0), c.Args().Get(1)
			return propose(out, s, event.SinkAdded{Sink: name, Address: address, Class: c.String("class")}, fmt.Sprintf("the feed is shipped to %s at %s", name, address))
		}),
	}
	remove := &cli.Command{
		Name: "remove", Usage: "ship nothing more to a sink, and keep nothing for it", ArgsUsage: "SINK",
		Action: withSession(1, func(c *cli.Context, s *session) error {
			name := c.Args().First()
			return propose(out, s, event.SinkRemoved{Sink: name}, name+" is no sink any more")
		}),
	}
	return &cli.Command{Name: "sinks", Usage: "where the feed is shipped to", Subcommands: []*cli.Command{add, remove}}
}

func feedQuota(out *printer) *cli.Command {
	return &cli.Command{
		Name: "quota", Usage: "set how much the outbox may hold of what some sink does not have", ArgsUsage: "MIB",
		Description: "At 80 % of it telemetry is dropped and the grid degraded; at 90 % clients' transactions and new agents are refused.",
		Action: withSession(1, func(c *cli.Context, s *session) error {
			text := c.Args().First()
			if n, err := strconv.ParseUint(text, 10, 32); err != nil || n == 0 {
				return usagef("%q: want a whole number of MiB", text)
			}
			return propose(out, s, event.SettingChanged{Key: fsm.SettingFeedQuota, Value: text}, "the outbox may hold "+text+" MiB")
		}),
	}
}

// propose brings an operator's event into the log, once however often it has to be sent.
func propose(out *printer, s *session, body event.Body, done string) error {
	bytes, err := event.AppendBody(nil, body)
	if err != nil {
		return err
	}
	req := &transport.Propose{Issued: time.Now().UnixMicro(), Actor: operator(), Type: body.Type(), Body: bytes}
	rand.Read(req.RequestID[:])
	ok, err := ask[transport.ProposeOk](s, req)
	if err != nil {
		return err
	}
	answer := struct {
		Seq uint64 `json:"seq"`
	}{ok.Seq}
	return out.show(answer, func(w io.Writer) { fmt.Fprintf(w, "%s (event %d)\n", done, ok.Seq) })
}

// operator is who runs this program, as the feed shall name it.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "operator"
}
