package sim

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	tapLines    = 400 // how many of the last log lines are kept
	maxTroubles = 100 // and how many lines of trouble
)

// tap reads the logs of all processes: it keeps the last lines, and what is trouble.
type tap struct {
	mu      sync.Mutex
	lines   []string // guarded by mu; a ring
	next    int      // guarded by mu
	trouble []string // guarded by mu
}

func newTap() *tap { return &tap{} }

// voice is the log of one process, from its start to its end.
type voice struct {
	*tap
	who   string
	attrs string
	mute  *atomic.Bool // the process was killed: what it says from now on nobody hears
}

func (t *tap) of(who string) *voice { return &voice{tap: t, who: who, mute: new(atomic.Bool)} }

// Enabled implements slog.Handler.
func (v *voice) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo && !v.mute.Load()
}

// WithAttrs implements slog.Handler.
func (v *voice) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *v
	for _, a := range attrs {
		with.attrs += " " + a.String()
	}
	return &with
}

// WithGroup implements slog.Handler.
func (v *voice) WithGroup(string) slog.Handler { return v }

// Handle implements slog.Handler.
func (v *voice) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s: %s%s", r.Time.UTC().Format("15:04:05.000"), r.Level, v.who, r.Message, v.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s", a)
		return true
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Level >= slog.LevelError && !explained(r.Message) {
		v.reportLocked(b.String())
	}
	if len(v.lines) < tapLines {
		v.lines = append(v.lines, b.String())
		return nil
	}
	v.lines[v.next] = b.String()
	v.next = (v.next + 1) % tapLines
	return nil
}

// report is trouble that no log tells of.
func (t *tap) report(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reportLocked(fmt.Sprintf(format, args...))
}

func (t *tap) reportLocked(line string) {
	if len(t.trouble) < maxTroubles {
		t.trouble = append(t.trouble, line)
	}
}

func (t *tap) troubles() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() { t.trouble = nil }()
	return t.trouble
}

// tail is the last lines of all logs.
func (t *tap) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(slices.Clone(t.lines[t.next:]), t.lines[:t.next]...), "\n")
}

// explained tells whether an error line is what every grid says when its processes are lost.
func explained(message string) bool { return slices.Contains(expected, message) }

// expected are the messages of error lines that a kill or a cut explains.
var expected = []string{
	"raft: peer has newer term, stopping replication",
	"raft: failed to decode incoming command", // its connection was reset
	"raft: failed to flush response",          // so was this one
	"raft: failed to make requestVote RPC",
	"raft: failed to heartbeat to",
	"raft: failed to appendEntries to",
	"raft: failed to get log", // it was cut off, and a snapshot is sent in its place
	"node crashed",
	"node ended while the agent was away",
}
