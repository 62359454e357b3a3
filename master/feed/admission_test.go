package feed

import (
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestEveryTypeHasAnAdmission: a new type of the catalogue has to say what happens to it when the outbox is full.
func TestEveryTypeHasAnAdmission(t *testing.T) {
	for _, typ := range event.Types() {
		a, listed := admissions[typ]
		if !listed {
			t.Errorf("%s has no admission", typ)
		}
		if telemetry := event.Info(typ).Class == event.Telemetry; telemetry != (a == Droppable) {
			t.Errorf("%s is of class %s and has admission %d: telemetry, and nothing else, is dropped", typ, event.Info(typ).Class, a)
		}
	}
	if len(admissions) != len(event.Types()) {
		t.Errorf("%d admissions for %d types", len(admissions), len(event.Types()))
	}
}

// TestAdmit fills an outbox without a sink step by step, and looks at each step at what is let in.
func TestAdmit(t *testing.T) {
	l := newLog(t)
	for _, body := range []event.Body{event.SettingChanged{Key: fsm.SettingFeedQuota, Value: "1"}, event.AgentRegistered{AgentID: "known"},
		event.AgentRegistered{AgentID: "lost"}, event.AgentDegraded{AgentID: "lost"},
		event.AssociationTypeAdded{Name: "old"}} {
		l.must(body)
	}
	commands := []struct {
		name  string
		body  event.Body
		drops bool // from 80 % on
		stops bool // from 90 % on
	}{
		{"heartbeat", event.AgentHeartbeat{AgentID: "known"}, true, false},
		{"heartbeat that ends a silence", event.AgentHeartbeat{AgentID: "lost"}, false, false},
		{"heartbeat of a stranger", event.AgentHeartbeat{AgentID: "stranger"}, false, false},
		{"new agent", event.AgentRegistered{AgentID: "stranger"}, false, true},
		{"agent that comes back", event.AgentRegistered{AgentID: "lost"}, false, false},
		{"new transaction", event.TxnCommitted{TxnID: event.TxnID{1}, Attempt: 1}, false, true},
		{"in-doubt abort", event.TxnAborted{TxnID: event.TxnID{1}, Attempt: 1}, false, false},
		{"completion", event.TxnCompleted{TxnIDs: []event.TxnID{{1}}}, false, false},
		{"new name", event.AssociationTypeAdded{Name: "new"}, false, true},
		{"known name", event.AssociationTypeAdded{Name: "old"}, false, false},
		{"setting", event.SettingChanged{Key: "k", Value: "v"}, false, false},
		{"sink", event.SinkAdded{Sink: "s", Address: "a:1", Class: "extern"}, false, false},
		{"acknowledgement", event.FeedAcked{Sink: "s"}, false, false},
		{"quorum", event.ShardLeaderChanged{ShardID: "shard-0"}, false, false},
		{"crash", event.NodeCrashed{NodeID: "node-1"}, false, false},
	}
	big := strings.Repeat("x", 4000)
	for _, percent := range []uint64{79, 80, 89, 90, 100, 150} {
		for out := l.machine.View().Outbox(); out.Bytes < out.Quota/100*percent; out = l.machine.View().Outbox() {
			l.must(event.SettingChanged{Key: "filler", Value: big[:min(4000, out.Quota/100*percent-out.Bytes)]})
		}
		for _, c := range commands {
			dropped, refused := Admit(l.machine.View(), event.NewCommand("test", c.body))
			if dropped != (c.drops && percent >= 80) || (refused != nil) != (c.stops && percent >= 90) {
				t.Errorf("at %d %%: %s: dropped %v, refused %v", percent, c.name, dropped, refused)
			}
			if refused != nil && (refused.Kind != event.KindFeedFull || !strings.Contains(refused.Message, "of 1 MiB") || !strings.Contains(refused.Message, "sink events (sink:50052) is")) {
				t.Errorf("refused with %+v", refused)
			}
		}
	}
}
