package raftgroup

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestPresets(t *testing.T) {
	for name, p := range map[string]Timeouts{"masters": LANMasters(), "shards": LANShards(), "wan": WAN()} {
		c := Config{Timeouts: p, LocalID: "a.1", Log: discard(), SnapshotThreshold: 1, TrailingLogs: maxOutstanding + 1}
		if err := c.validate(); err == nil || strings.Contains(err.Error(), "Timeouts") {
			t.Errorf("%s: %v", name, err)
		}
		r := c.raftConfig(nil)
		if err := raft.ValidateConfig(r); err != nil {
			t.Errorf("%s: raft refuses it: %v", name, err)
		}
		if r.PreVoteDisabled || r.BatchApplyCh || r.ShutdownOnRemove || r.TrailingLogs <= maxOutstanding {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Everything that is wrong is said at once.
func TestValidateSaysAll(t *testing.T) {
	err := (&Config{}).validate()
	if err == nil {
		t.Fatal("an empty configuration passes")
	}
	for _, field := range []string{"GroupID", "LocalID", "Dir", "Host", "Network", "Addresses", "FSM", "Fatal", "Log", "SnapshotThreshold", "TrailingLogs", "Heartbeat", "Lease", "Commit", "MaxAppendEntries"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named", field)
		}
	}
}

// raft's lines keep their levels; those it repeats for every attempt at a dead replica are held back and counted.
func TestRaftLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		l := newRaftLog(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelInfo})))
		l.Debug("hidden")
		l.Info("entering leader state", "leader", hclog.Fmt("%s-%d", "x", 1))
		l.Warn("careful")
		l.Named("sub").With("k", "v").Error("broken", "error", "why")
		for range 100 {
			l.Error("failed to heartbeat to", "peer", "node-2", "error", "refused")
			l.Error("failed to heartbeat to", "peer", "node-3", "error", "refused")
		}
		time.Sleep(quietFor)
		l.Error("failed to heartbeat to", "peer", "node-2", "error", "refused")
		l.Error("failed to take snapshot", "error", raft.ErrLeadershipTransferInProgress)
		l.Error("failed to take snapshot", "error", fmt.Errorf("failed to close snapshot: %v", errSuperseded))
		l.Error("failed to take snapshot", "error", errors.New("the disk is full"))
		out := buf.String()
		for _, want := range []string{
			`level=INFO msg="raft: entering leader state" leader=x-1`, `level=WARN msg="raft: careful"`,
			`level=ERROR msg="raft: broken"`, `k=v`, "error=why", "repeated=99",
			`level=INFO msg="raft: failed to take snapshot" error="leadership transfer`, `level=INFO msg="raft: failed to take snapshot" error="failed to close snapshot: the snapshot is of no use`, `level=ERROR msg="raft: failed to take snapshot" error="the disk is full`,
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		if strings.Contains(out, "hidden") || strings.Count(out, "heartbeat") != 3 {
			t.Errorf("too much:\n%s", out)
		}
	})
}
