package master

import (
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// TestLevelRises: a grid of level 1 whose masters all support the present level goes there by itself.
func TestLevelRises(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.Limits.Check, cfg.seams.foundAt = 50*time.Millisecond, 1 })
	c.start(c.ids()...)
	all := c.feed("master-2", 1, until(event.TypeLevelRaised, 1))
	if last := all[len(all)-1].Body; last != (event.LevelRaised{To: fsm.SupportedLevel}) || all[0].Body.(event.IncarnationStarted).Level != 1 {
		t.Errorf("it began with %+v and went on to %+v", all[0].Body, last)
	}
}

// TestRaisable: nobody is left behind.
func TestRaisable(t *testing.T) {
	join := func(id event.MasterID, level uint32, store string) event.MasterJoined {
		return event.MasterJoined{MasterID: id, Address: string(id) + ":1", Suffrage: "voter", HTTP: "h:1", Grid: "g:1", Level: level, ReplicaID: event.NewReplicaID(string(id), store)}
	}
	for _, tt := range []struct {
		name   string
		events []event.Body
		want   uint32
	}{
		{"all support it", nil, 2},
		{"one is older", []event.Body{join("master-2", 1, "s")}, 1},
		{"one was replaced and has not said", []event.Body{join("master-2", 2, "other")}, 0},
		{"one is away", []event.Body{event.MasterUnreachable{MasterID: "master-3"}}, 0},
		{"one has left the state", []event.Body{event.MasterLeft{MasterID: "master-3"}}, 0},
		{"level.max holds it back", []event.Body{event.SettingChanged{Key: fsm.SettingLevelMax, Value: "1"}}, 1},
		{"level.max is no number", []event.Body{event.SettingChanged{Key: fsm.SettingLevelMax, Value: "two"}}, 0},
		{"level.max was taken back", []event.Body{event.SettingChanged{Key: fsm.SettingLevelMax, Value: "1"}, event.SettingChanged{Key: fsm.SettingLevelMax}}, 2},
	} {
		if to := raisable(levelOne(t, 3, tt.events...), members3(), fsm.SupportedLevel); to != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, to, tt.want)
		}
	}
}

func members3() []raftgroup.PeerStatus {
	var all []raftgroup.PeerStatus
	for _, id := range []string{"master-1", "master-2", "master-3"} {
		all = append(all, raftgroup.PeerStatus{ID: event.NewReplicaID(id, "s"), Suffrage: raftgroup.Voter})
	}
	return all
}

// levelOne is the state of a grid of level 1 with so many masters that support level 2, and behind more events.
func levelOne(t *testing.T, masters int, more ...event.Body) *fsm.State {
	t.Helper()
	events := []event.Body{event.IncarnationStarted{GridID: "g", Incarnation: event.Incarnation{N: 1}, Reason: "formed", Level: 1}}
	for _, p := range members3()[:masters] {
		id := event.MasterID(p.ID.Owner())
		events = append(events, event.MasterJoined{MasterID: id, Address: string(id) + ":1", Suffrage: "voter", HTTP: "h:1", Grid: "g:1", Level: 2, ReplicaID: p.ID})
	}
	m := fsm.NewMachine()
	for i, body := range append(events, more...) {
		command := event.NewCommand("master-1", body)
		command.RequestID, command.Issued = event.RequestID{byte(i + 1)}, int64(i+1)
		b, err := event.AppendCommand(nil, command)
		if err != nil {
			t.Fatal(err)
		}
		answers, _, err := m.Apply(fsm.EntryMeta{Index: uint64(i + 1), Time: int64(i + 1), Level: 1}, [][]byte{b})
		if err != nil || answers[0].Err != nil {
			t.Fatalf("%+v: %v, %v", body, err, answers[0].Err)
		}
	}
	return m.View()
}
