package storagenode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

// shardOf reads "a b c+ d-": voters, a learner (+), and who leaves (-), in the map; in a configuration learners alone are marked.
func shardOf(text string) *shardmap.Shard {
	s := &shardmap.Shard{ID: "shard-0", State: shardmap.Formed}
	for _, word := range strings.Fields(text) {
		name := strings.TrimRight(word, "+-")
		r := shardmap.Replica{ReplicaID: event.ReplicaID(name), Role: shardmap.Voter, Leaving: strings.Contains(word, "-")}
		if strings.Contains(word, "+") {
			r.Role = shardmap.Learner
		}
		s.Replicas = append(s.Replicas, r)
	}
	return s
}

func configurationOf(text string) (peers []raftgroup.PeerStatus) {
	for _, r := range shardOf(text).Replicas {
		p := raftgroup.PeerStatus{ID: r.ReplicaID, Suffrage: raftgroup.Voter}
		if r.Role == shardmap.Learner {
			p.Suffrage = raftgroup.Learner
		}
		peers = append(peers, p)
	}
	return peers
}

// TestPlanMembers: "a" leads.
func TestPlanMembers(t *testing.T) {
	for _, c := range []struct{ name, wanted, have, want string }{
		{"as it should be", "a b c", "a b c", "nothing "},
		{"a learner comes", "a b c d+", "a b c", "add learner d"},
		{"it is there", "a b c d+", "a b c d+", "promote d"},
		{"it votes", "a b c d+", "a b c d", "report promotion d"},
		{"first the new one, then the old one goes", "a b c- d+", "a b c", "add learner d"},
		{"a promotion is reported before anybody goes", "a b c- d+", "a b c d", "report promotion d"},
		{"the old one goes", "a b c- d", "a b c d", "remove c"},
		{"it has gone", "a b c- d", "a b d", "report removal c"},
		{"the leader is to go", "a- b c d", "a b c d", "hand leadership over a"},
		{"a learner that is not wanted, added", "a b c d+-", "a b c d+", "remove d"},
		{"a learner that is not wanted, never added", "a b c d+-", "a b c", "report removal d"},
		{"a learner that is not wanted votes", "a b c d+-", "a b c d", "remove d"},
		{"a learner that is not wanted leads", "b c a+-", "a b c", "hand leadership over a"},
		{"a voter was removed that was to stay after all", "a b c", "a b", "report removal c"},
		{"added by a leader whose map was old", "a b c", "a b c d+", "remove d"},
		{"a voter that this map does not know yet", "a b c", "a b c d", "nothing "},
		{"one at a time: the stray goes when nobody comes", "a b c d+", "a b c e+", "add learner d"},
	} {
		step := planMembers(shardOf(c.wanted), configurationOf(c.have), "a")
		if got := step.verb.String() + " " + string(step.replica); got != c.want {
			t.Errorf("%s: map %q, configuration %q: %s, want %s", c.name, c.wanted, c.have, got, c.want)
		}
	}
}

// TestPutOffIsSaidOnce: a failure each time that it is another one, a refusal once, and not before it has lasted.
func TestPutOffIsSaidOnce(t *testing.T) {
	add, promote := memberStep{addLearner, "d"}, memberStep{promoteLearner, "d"}
	behind := func(why string) error { return &event.Error{Kind: event.KindRefused, Message: why} }
	down := errors.New("no master answers")
	var p putOff
	start := time.Now()
	for i, c := range []struct {
		at   time.Duration
		step memberStep
		err  error
		want bool
	}{
		{0, add, down, true},
		{1, add, down, false},
		{2, add, errors.New("another reason"), true},
		{3, add, nil, false},
		{4, promote, behind("at 1 of 900"), false},
		{4 + refusalSaid/time.Second - 1, promote, behind("at 500 of 900"), false},
		{4 + refusalSaid/time.Second, promote, behind("at 600 of 900"), true},
		{100, promote, behind("at 700 of 900"), false},
		{101, promote, down, true},
		{102, promote, behind("at 800 of 900"), false},
		{103, promote, nil, false},
		{104, promote, behind("again"), false},
		{104 + refusalSaid/time.Second, promote, behind("again, for long"), true},
	} {
		if got := p.say(start.Add(c.at*time.Second), c.step, c.err); got != c.want {
			t.Errorf("%d: %v at %d s: said %t, want %t", i, c.err, c.at, got, c.want)
		}
	}
}
