package workload

import (
	"encoding/json"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

// TestMapsGoForward: a map that is older than what the watcher had, or the same again, is found; so is a history without any.
func TestMapsGoForward(t *testing.T) {
	at := func(seq uint64) event.Position { return event.Position{N: 1, Seq: seq} }
	for _, tt := range []struct {
		name  string
		steps []mapStep
		want  []history.Class
	}{
		{"forward", []mapStep{{Got: at(1)}, {Had: at(1), Got: at(7)}, {Watcher: 1, Got: at(3)}}, nil},
		{"back", []mapStep{{Got: at(7)}, {Had: at(7), Got: at(3)}}, []history.Class{history.WatchBroken}},
		{"again", []mapStep{{Had: at(7), Got: at(7)}}, []history.Class{history.WatchBroken}},
		{"nothing", nil, []history.Class{history.Undecided}},
	} {
		l := &history.Log{}
		for _, s := range tt.steps {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			l.Notes = append(l.Notes, history.Note{Name: noteMap, Value: b})
		}
		var got []history.Class
		for _, a := range checkMaps(l).Anomalies {
			got = append(got, a.Class)
		}
		if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
