package history

import (
	"slices"
	"strings"
	"testing"
)

// feedOf is two sources that hold the same five events.
func feedOf() (all []FeedEvent) {
	for _, source := range []string{"master-1", SourceStorage} {
		all = append(all,
			FeedEvent{Source: source, Seq: 5, Type: "leader_elected", Sum: "a", Chain: "1", Term: 3, Leader: "master-1"},
			FeedEvent{Source: source, Seq: 6, Type: "txn_committed", Sum: "b", Chain: "2", Txn: "x"},
			FeedEvent{Source: source, Seq: 7, Type: "txn_aborted", Sum: "c", Chain: "3", Txn: "y", Final: true},
			FeedEvent{Source: source, Seq: 8, Type: "setting_changed", Sum: "d", Chain: "4"},
			FeedEvent{Source: source, Seq: 9, Type: "leader_elected", Sum: "e", Chain: "5", Term: 4, Leader: "master-2"})
	}
	return all
}

func TestFeed(t *testing.T) {
	told := []Txn{{Call: 1, ID: "x", Outcome: OK, Seq: 6}, {Call: 2, ID: "y", Outcome: Fail}, {Call: 3, ID: "z", Outcome: OK}, {Call: 4, ID: "w", Outcome: OK, Seq: 99}}
	if r := Feed(&Log{Events: feedOf(), Txns: told}); !r.Valid() || r.Checked != 10 {
		t.Error(r)
	}
	change := func(f func(all []FeedEvent) []FeedEvent) []FeedEvent { return f(feedOf()) }
	for name, tt := range map[string]struct {
		want Class
		all  []FeedEvent
	}{
		"a gap":           {FeedGap, change(func(a []FeedEvent) []FeedEvent { return slices.Delete(a, 7, 8) })},
		"twice":           {FeedGap, change(func(a []FeedEvent) []FeedEvent { return slices.Insert(a, 7, a[7]) })},
		"out of order":    {FeedGap, change(func(a []FeedEvent) []FeedEvent { a[6], a[7] = a[7], a[6]; return a })},
		"another one":     {FeedDiffers, change(func(a []FeedEvent) []FeedEvent { a[7].Sum = "q"; return a })},
		"another chain":   {FeedDiffers, change(func(a []FeedEvent) []FeedEvent { a[7].Chain = "q"; return a })},
		"chain broken":    {FeedDiffers, change(func(a []FeedEvent) []FeedEvent { a[7].Fault = "does not follow"; return a })},
		"two leaders":     {TwoLeaders, change(func(a []FeedEvent) []FeedEvent { a[4].Term, a[9].Term = 3, 3; return a })},
		"not decided":     {Decision, change(func(a []FeedEvent) []FeedEvent { a[1].Txn, a[6].Txn = "v", "v"; return a })},
		"failed, commits": {Decision, change(func(a []FeedEvent) []FeedEvent { a[1].Txn, a[6].Txn = "y", "y"; return a })},
		"both ways":       {Decision, change(func(a []FeedEvent) []FeedEvent { a[2].Txn, a[7].Txn = "x", "x"; return a })},
		"others', both":   {Decision, change(func(a []FeedEvent) []FeedEvent { a[0].Txn, a[0].Type, a[0].Final = "y", "txn_aborted", true; return a })},
		"one source":      {Empty, feedOf()[:5]},
		"nothing":         {Empty, nil},
	} {
		if r := Feed(&Log{Events: tt.all, Txns: told}); !r.Has(tt.want) {
			t.Errorf("%s: want %s, got %s", name, tt.want, r)
		}
	}
}

func TestWatches(t *testing.T) {
	step := func(begun bool, from, next, newest uint64, seqs ...uint64) WatchStep {
		return WatchStep{Watcher: "w", Begun: begun, From: from, Next: next, Newest: newest, Seqs: seqs}
	}
	only := func(s WatchStep) WatchStep { s.Types = []string{"leader_elected"}; return s }
	for name, steps := range map[string][]WatchStep{
		"from the beginning":  {step(true, 5, 7, 9, 5, 6), step(false, 0, 7, 9), step(false, 0, 10, 9, 7, 8, 9)},
		"from now on":         {step(true, 0, 7, 9, 6), step(false, 0, 8, 9, 7)},
		"goes on elsewhere":   {step(true, 5, 7, 9, 5, 6), step(true, 7, 10, 9, 7, 8, 9)},
		"those that it wants": {only(step(true, 5, 8, 9, 5)), only(step(false, 0, 10, 9, 9))},
		"what is trimmed":     {step(true, 5, 6, 9, 5), {Watcher: "w", Missed: 6, Next: 8, Newest: 9}, step(false, 0, 9, 9, 8)},
	} {
		if r := Watches(&Log{Events: feedOf(), Watches: steps}); !r.Valid() || r.Checked != len(steps) {
			t.Errorf("%s: %s", name, r)
		}
	}
	for name, tt := range map[string]struct {
		want  string
		steps []WatchStep
	}{
		"one is left out":        {"did not come", []WatchStep{step(true, 5, 8, 9, 5, 7)}},
		"the last is left out":   {"did not come", []WatchStep{step(true, 5, 8, 9, 5, 6)}},
		"twice":                  {"is next", []WatchStep{step(true, 5, 7, 9, 5, 6), step(false, 0, 8, 9, 6, 7)}},
		"resumed too far":        {"went on", []WatchStep{step(true, 5, 7, 9, 5, 6), step(true, 8, 9, 9, 8)}},
		"resumed too early":      {"went on", []WatchStep{step(true, 5, 7, 9, 5, 6), step(true, 6, 9, 9, 6, 7, 8)}},
		"progress ahead":         {"progress", []WatchStep{step(true, 5, 7, 5, 5, 6)}},
		"progress behind":        {"progress", []WatchStep{step(true, 5, 6, 9, 5, 6)}},
		"unwanted":               {"does not want", []WatchStep{only(step(true, 5, 7, 9, 5, 6))}},
		"it breaks":              {"cannot go on", []WatchStep{step(true, 5, 6, 9, 5), {Watcher: "w", Fault: "event 9 came"}}},
		"told that more is gone": {"are gone", []WatchStep{step(true, 5, 6, 9, 5), {Watcher: "w", Missed: 7, Next: 8, Newest: 9}}},
	} {
		if r := Watches(&Log{Events: feedOf(), Watches: tt.steps}); !r.Has(WatchBroken) || !strings.Contains(r.String(), tt.want) {
			t.Errorf("%s: want %q, got %s", name, tt.want, r)
		}
	}
	if r := Watches(&Log{Watches: []WatchStep{step(true, 5, 6, 9, 5)}}); !r.Has(Empty) {
		t.Error("there was nothing to compare with:", r)
	}
}
