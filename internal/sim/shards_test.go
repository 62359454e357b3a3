package sim

import (
	"fmt"
	"strings"
	"testing"
)

// shardScenario is a grid of three masters, three storage nodes and two shards of three replicas that lives through so many faults.
func shardScenario(seed uint64, steps int) scenario {
	s := scenario{seed: seed, masters: 3, estates: 3, pace: 10}
	s.steps, s.losses = nodePlan(seed, steps)
	return s
}

// enough fails the test when the users of the shards did too little for a run of so many faults.
func (r result) enough(t *testing.T, faults int) {
	t.Helper()
	if s := r.shards; s.writes < int64(10*faults) || s.reads < int64(10*faults) || s.transfers < int64(5*faults) || s.links == 0 || s.hashed < 6 {
		t.Errorf("too little happened in the shards to prove anything: %s", s)
	}
}

// TestShards: users write, read, transfer and associate over two shards while nodes and masters are lost.
func TestShards(t *testing.T) {
	s := shardScenario(seed(t, 51), 4)
	r := simulate(t, s)
	r.sound(t, s)
	r.enough(t, len(s.steps))
}

// TestNodeFaults does the same GRID_SIM_NODES times, in grids that live through nodeSteps faults each; the seeds count up from
// GRID_SIM_SEED.
func TestNodeFaults(t *testing.T) {
	faults := number(t, "GRID_SIM_NODES", 0)
	if faults == 0 {
		t.Skip("set GRID_SIM_NODES to the number of faults, or use make sim")
	}
	var all result
	done := 0
	for first := seed(t, 5000); done < faults; first++ {
		s := shardScenario(first, min(nodeSteps, faults-done))
		if !t.Run(fmt.Sprintf("seed %d", first), func(t *testing.T) {
			r := simulate(t, s)
			r.sound(t, s)
			r.enough(t, len(s.steps))
			all.add(r)
		}) {
			return
		}
		done += len(s.steps)
	}
	t.Logf("in all: %d faults, %s", done, all)
}

// TestRegisterSeesFaults: the register's checker is told of each way in which a read can be wrong, and of none where it is right.
func TestRegisterSeesFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		before, during []outcome // of versions 1, 2, … before the read began and after
		reads          int       // the version; 0: absent, -1: something else
		want           string
	}{
		"what was acknowledged":        {[]outcome{acked, acked}, nil, 2, ""},
		"what was written meanwhile":   {[]outcome{acked}, []outcome{acked}, 2, ""},
		"what was there when it began": {[]outcome{acked}, []outcome{acked}, 1, ""},
		"an open one that came late":   {[]outcome{acked, open, acked}, nil, 2, ""},
		"nothing yet":                  {[]outcome{open}, nil, 0, ""},
		"an older one":                 {[]outcome{acked, acked}, nil, 1, "lost"},
		"nothing":                      {[]outcome{acked}, nil, 0, "lost"},
		"one surely not done":          {[]outcome{acked, failed}, nil, 2, "surely not done"},
		"another content":              {[]outcome{acked}, nil, -1, "altered"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRegister("r")
			write := func(all []outcome) {
				for _, did := range all {
					version, _ := r.begin("")
					r.settle(version, did)
				}
			}
			write(tc.before)
			h := r.horizon()
			write(tc.during)
			content := "something else"
			if tc.reads > 0 {
				content = r.contents[tc.reads-1]
			}
			err := r.saw(h, tc.reads != 0, content)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestAdoptedVersionsAreNotDoneAgain: an open version that its writer has seen may not come back behind a later one.
func TestAdoptedVersionsAreNotDoneAgain(t *testing.T) {
	r := newRegister("r")
	_, first := r.begin("")
	if err := r.adopt(r.horizon(), true, first); err != nil {
		t.Fatal(err)
	}
	version, _ := r.begin("")
	r.settle(version, acked)
	if r.saw(r.horizon(), true, first) == nil {
		t.Error("not seen")
	}
}
