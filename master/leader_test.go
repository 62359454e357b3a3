package master

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// tally is a log that counts the lines with a text.
type tally struct {
	slog.Handler
	of    string
	lines atomic.Int32
}

func newTally(of string) *tally {
	return &tally{Handler: slog.NewTextHandler(io.Discard, nil), of: of}
}

// Handle implements slog.Handler.
func (t *tally) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, t.of) {
		t.lines.Add(1)
	}
	return nil
}

// TestRefusalsAreSaidOnce: while the masters disagree every look sees the same and is refused the same; that is said once, and
// again when it changes, or comes back.
func TestRefusalsAreSaidOnce(t *testing.T) {
	c := newCluster(t, nil)
	c.peers = c.peers[:1] // who is alone leads to the end
	c.start(c.ids()...)
	id, _ := c.leader()
	must[transport.RegisterAgentOk](c, id, registration(1)) // it takes commands by now
	m, log := c.up[id], newTally("event not recorded")
	o := &office{leader: &leader{cfg: m.cfg, proposer: m.core.proposer, log: slog.New(log)}}
	see := func(body event.Body, reason string, want int32) {
		t.Helper()
		m.core.proposer.halted.Store(nil)
		if reason != "" {
			m.core.proposer.halted.Store(&event.Error{Kind: event.KindUnavailable, Message: reason})
		}
		for range 3 {
			if o.note(t.Context(), body) != (reason == "") {
				t.Fatalf("recorded: %v, with %q", reason != "", reason)
			}
		}
		if got := log.lines.Load(); got != want {
			t.Errorf("%s, %q: %d lines, want %d", body.Type(), reason, got, want)
		}
	}
	note, away := event.SettingChanged{Key: "note", Value: "v"}, event.MasterUnreachable{MasterID: "master-2"}
	see(note, "disagree", 1)
	see(away, "disagree", 2)
	see(away, "disagree still", 3)
	see(note, "", 3)
	see(note, "disagree", 4)
}
