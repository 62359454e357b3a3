package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// quietFor is how long a repeated line about an unreachable replica is held back: raft writes one for every attempt.
const quietFor = 10 * time.Second

// repeated lists the lines that are held back, per replica; what they say is in Peers and in the leader's state too.
func repeated(msg string) bool {
	switch msg {
	case "failed to heartbeat to", "failed to appendEntries to", "failed to make requestVote RPC", "failed to contact",
		"unable to get address for server, using fallback address", "appendEntries rejected, sending older logs",
		"rejecting pre-vote request since we have a leader", "rejecting vote request since we have a leader",
		"failed to accept connection":
		return true
	}
	return false
}

// newRaftLog is raft's logger: its lines go to log with their levels.
func newRaftLog(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(&logSink{log: log, last: map[string]quiet{}})
	return l
}

// logSink is the bridge from hclog to slog.
type logSink struct {
	log  *slog.Logger
	mu   sync.Mutex
	last map[string]quiet // guarded by mu; by line and replica
}

// quiet is the state of one line that is held back.
type quiet struct {
	until   time.Time
	skipped int
}

// Accept implements hclog.SinkAdapter.
func (s *logSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if postponed(msg, args) {
		to = slog.LevelInfo
	}
	if !s.log.Enabled(context.Background(), to) {
		return
	}
	attrs := make([]any, 0, len(args)+4)
	for i := 0; i+1 < len(args); i += 2 {
		attrs = append(attrs, fmt.Sprint(args[i]), plain(args[i+1]))
	}
	if repeated(msg) {
		skipped, ok := s.admit(msg + " " + fmt.Sprint(attrs[:min(2, len(attrs))]...))
		if !ok {
			return
		}
		if skipped > 0 {
			attrs = append(attrs, "repeated", skipped)
		}
	}
	s.log.Log(context.Background(), to, "raft: "+msg, attrs...)
}

// postponed tells whether a line is about a snapshot for which it is not the time, or no longer: raft tries again, and calls that an error.
func postponed(msg string, args []any) bool {
	if msg != "failed to take snapshot" {
		return false
	}
	for _, a := range args {
		err, is := a.(error)
		if is && (errors.Is(err, raft.ErrLeadershipTransferInProgress) || strings.HasPrefix(err.Error(), "cannot take snapshot now") ||
			strings.Contains(err.Error(), errSuperseded.Error())) { // raft does not wrap
			return true
		}
	}
	return false
}

// admit tells whether the line may be written, and how often it was held back since the last time.
func (s *logSink) admit(key string) (skipped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, q := time.Now(), s.last[key]
	if now.Before(q.until) {
		q.skipped++
		s.last[key] = q
		return 0, false
	}
	s.last[key] = quiet{until: now.Add(quietFor)}
	return q.skipped, true
}

// plain turns hclog's lazily formatted values into text.
func plain(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		if len(v) > 0 {
			return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		}
	case fmt.Stringer:
		return v.String()
	}
	return v
}

// slogLevel keeps the level. raft's Info is about elections and snapshots, which an operator wants to see.
func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace, hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}
