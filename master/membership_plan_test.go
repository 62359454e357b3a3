package master

import (
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// peersOf reads "m1.a v0 m2.b v90 m3.c l0+6": voters and learners with the seconds since their last contact ("-": never), and
// behind + those since they have been near the end of the log. m1.a is the leader itself.
func peersOf(t *testing.T, s string) []raftgroup.PeerStatus {
	t.Helper()
	words := strings.Fields(s)
	var peers []raftgroup.PeerStatus
	for i := 0; i < len(words); i += 2 {
		p := raftgroup.PeerStatus{ID: event.ReplicaID(words[i]), Suffrage: raftgroup.Voter}
		if words[i+1][0] == 'l' {
			p.Suffrage = raftgroup.Learner
		}
		contact, near, isNear := strings.Cut(words[i+1][1:], "+")
		if contact != "-" && i > 0 {
			p.LastContact = before(t, contact)
		}
		if isNear {
			p.NearSince = before(t, near)
		}
		peers = append(peers, p)
	}
	return peers
}

func before(t *testing.T, seconds string) time.Time {
	t.Helper()
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		t.Fatal(err)
	}
	return noon.Add(-d)
}

func TestPlanUpkeep(t *testing.T) {
	for _, tt := range []struct {
		name, peers             string
		deadAfter, grace        float64 // seconds; since when silence counts
		wantPromote, wantRemove event.ReplicaID
	}{
		{"nothing to do", "m1.a v0 m2.b v0 m3.c v0", 60, 1000, "", ""},
		{"a learner has caught up", "m1.a v0 m2.b v0 m3.c v0 m4.d l0+5", 0, 1000, "m4.d", ""},
		{"a learner has not been near for long enough", "m1.a v0 m2.b v0 m3.c v0 m4.d l0+4.9", 0, 1000, "", ""},
		{"a learner is behind", "m1.a v0 m2.b v0 m3.c v0 m4.d l0", 0, 1000, "", ""},
		{"a dead one of four goes", "m1.a v0 m2.b v0 m3.c v90 m4.d v0", 60, 1000, "", "m3.c"},
		{"off by default", "m1.a v0 m2.b v0 m3.c v9000 m4.d v0", 0, 10000, "", ""},
		{"not dead for long enough", "m1.a v0 m2.b v0 m3.c v59 m4.d v0", 60, 1000, "", ""},
		{"three voters stay three", "m1.a v0 m2.b v0 m3.c v90", 60, 1000, "", ""},
		{"the promoted come first", "m1.a v0 m2.b v0 m3.c v90 m4.d l0+6", 60, 1000, "m4.d", ""},
		{"one at a time", "m1.a v0 m2.b v0 m3.c v0 m4.d v90 m5.e v90", 60, 1000, "", "m4.d"},
		{"no majority of the rest is well", "m1.a v0 m2.b v90 m3.c v90 m4.d v90 m5.e v90", 60, 1000, "", ""},
		{"the rest is just about well", "m1.a v0 m2.b v0 m3.c v0 m4.d v2 m5.e v90", 60, 1000, "", "m5.e"},
		{"the rest hangs", "m1.a v0 m2.b v0 m3.c v2 m4.d v2 m5.e v90", 60, 1000, "", ""},
		{"never heard of, in a new term", "m1.a v0 m2.b v0 m3.c v- m4.d v0", 60, 59, "", ""},
		{"never heard of, long enough", "m1.a v0 m2.b v0 m3.c v- m4.d v0", 60, 60, "", "m3.c"},
		{"the leader looked late", "m1.a v0 m2.b v0 m3.c v90 m4.d v0", 60, 5, "", ""},
		{"a dead learner goes whoever is left", "m1.a v0 m2.b l90", 60, 1000, "", "m2.b"},
		{"the leader never goes", "m1.a v90 m2.b v0 m3.c v0 m4.d v0", 60, 1000, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
			got := planUpkeep(upkeep{peers: peersOf(t, tt.peers), self: "m1.a", now: noon, grace: noon.Add(-second(tt.grace)), deadAfter: second(tt.deadAfter)})
			if got.promote != tt.wantPromote || got.remove != tt.wantRemove {
				t.Errorf("got %+v, want to promote %q, remove %q", got, tt.wantPromote, tt.wantRemove)
			}
		})
	}
}

func TestPlanRemoval(t *testing.T) {
	for _, tt := range []struct {
		name, peers, id string
		shrink          bool
		want            event.ReplicaID
		kind            event.Kind
		message         string
	}{
		{"of four", "m1.a v0 m2.b v0 m3.c v0 m4.d v0", "m2", false, "m2.b", "", ""},
		{"the leader", "m1.a v0 m2.b v0 m3.c v0 m4.d v0", "m1", false, "m1.a", "", ""},
		{"a well one of three", "m1.a v0 m2.b v0 m3.c v0", "m2", false, "", event.KindRefused, "add its replacement first"},
		{"a well one of three, meant so", "m1.a v0 m2.b v0 m3.c v0", "m2", true, "m2.b", "", ""},
		{"a dead one of three", "m1.a v0 m2.b v9 m3.c v0", "m2", false, "m2.b", "", ""},
		{"the only one", "m1.a v0", "m1", true, "", event.KindRefused, "the only voter"},
		{"the only voter, by its replica", "m1.a v0 m2.b l0", "m1.a", true, "", event.KindRefused, "the only voter"},
		{"a learner", "m1.a v0 m2.b l0", "m2", false, "m2.b", "", ""},
		{"nobody", "m1.a v0 m2.b v0", "m9", false, "", event.KindNotFound, "m9 is no member; there are m1.a, m2.b"},
		{"a lost disk that was replaced", "m1.a v0 m2.b v90 m3.c v0 m2.d v0", "m2", false, "m2.b", "", ""},
		{"by replica", "m1.a v0 m2.b v90 m3.c v0 m2.d v0", "m2.d", false, "m2.d", "", ""},
		{"two that are silent", "m1.a v0 m2.b v90 m3.c v0 m2.d l-", "m2", false, "", event.KindRefused, "name the one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := planRemoval(peersOf(t, tt.peers), "m1.a", removal{id: tt.id, shrink: tt.shrink, now: noon})
			if got != tt.want || kindOf(err) != tt.kind || tt.message != "" && !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got %q, %v; want %q, kind %q, a word of %q", got, err, tt.want, tt.kind, tt.message)
			}
		})
	}
}
