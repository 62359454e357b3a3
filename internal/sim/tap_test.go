package sim

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// tapLines is how many of the last log lines a failure prints.
const tapLines = 400

// tap reads the processes' logs: who leads in which term, and the last lines for a failure.
type tap struct {
	mu    sync.Mutex
	lines []string                  // guarded by mu; a ring
	next  int                       // guarded by mu
	led   map[uint64]event.MasterID // guarded by mu; term -> who began to lead in it
	last  uint64                    // guarded by mu; the highest term of led
	twice []string                  // guarded by mu; terms with two leaders
	sent  int                       // guarded by mu; snapshots that a leader sent and a follower installed
	wake  chan struct{}             // guarded by mu; closed when led changes
}

func newTap() *tap { return &tap{led: map[uint64]event.MasterID{}, wake: make(chan struct{})} }

// of is one process's log.
func (t *tap) of(host string) slog.Handler { return tapHandler{t, host, ""} }

type tapHandler struct {
	*tap
	host  string
	attrs string
}

// Enabled implements slog.Handler.
func (h tapHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (h tapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += " " + a.String()
	}
	return h
}

// WithGroup implements slog.Handler.
func (h tapHandler) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h tapHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s: %s%s", r.Time.UTC().Format("15:04:05.000"), r.Level, h.host, r.Message, h.attrs)
	var term uint64
	group := ""
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s", a)
		switch a.Key {
		case "term":
			term = a.Value.Uint64()
		case "group":
			group = a.Value.String()
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Message == "leading" && group == "masters" {
		h.ledLocked(event.MasterID(h.host), term)
	}
	if strings.Contains(r.Message, "Installed remote snapshot") {
		h.sent++
	}
	if len(h.lines) < tapLines {
		h.lines = append(h.lines, b.String())
		return nil
	}
	h.lines[h.next] = b.String()
	h.next = (h.next + 1) % tapLines
	return nil
}

func (t *tap) ledLocked(id event.MasterID, term uint64) {
	if other, known := t.led[term]; known && other != id {
		t.twice = append(t.twice, fmt.Sprintf("term %d: %s and %s", term, other, id))
	}
	t.led[term] = id
	t.last = max(t.last, term)
	close(t.wake)
	t.wake = make(chan struct{})
}

// leader is who began to lead last; a term of 0: nobody yet.
func (t *tap) leader() (event.MasterID, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.led[t.last], t.last
}

// changed is closed when leader may have another answer.
func (t *tap) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wake
}

// twoLeaders lists the terms that had more than one.
func (t *tap) twoLeaders() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.twice...)
}

// installed is how many snapshots were sent and installed.
func (t *tap) installed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent
}

// tail is the last lines of all logs.
func (t *tap) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...), "\n")
}
