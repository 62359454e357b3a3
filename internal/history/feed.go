package history

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Feed checks the feed against itself, as every source holds it, and against what clients of transactions were told: seq without gap or
// repetition in each source, the same event with the same chain in all of them; one leader in each term; for each transaction that was
// acknowledged with the seq of its decision this one committing event, for none that failed any, and never a commit together with an
// abort for good.
func Feed(l *Log) Report {
	r := Report{Checker: "feed"}
	sources := map[string][]FeedEvent{}
	var names []string
	for _, e := range l.Events {
		if sources[e.Source] == nil {
			names = append(names, e.Source)
		}
		sources[e.Source] = append(sources[e.Source], e)
	}
	truth := map[uint64]FeedEvent{}
	for _, name := range names {
		r.source(sources[name], truth)
	}
	if len(names) < 2 {
		r.Checked = 0 // nothing was compared with anything
	}
	seqs := make([]uint64, 0, len(truth))
	for seq := range truth {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	feed := make([]FeedEvent, len(seqs))
	for i, seq := range seqs {
		feed[i] = truth[seq]
	}
	r.terms(feed)
	r.decisions(l.Txns, feed)
	r.empty()
	return r
}

// source checks one holder's events, in the order in which they were read, and compares them with those of others.
func (r *Report) source(held []FeedEvent, truth map[uint64]FeedEvent) {
	for i, e := range held {
		r.Checked++
		if i > 0 && e.Seq != held[i-1].Seq+1 {
			r.Add(FeedGap, nil, "%s has event %d behind %d", e.Source, e.Seq, held[i-1].Seq)
		}
		if e.Fault != "" {
			r.Add(FeedDiffers, nil, "event %d in %s: %s", e.Seq, e.Source, e.Fault)
		}
		other, known := truth[e.Seq]
		if !known {
			truth[e.Seq] = e
			continue
		}
		if other.Sum != e.Sum || other.Chain != e.Chain || other.Type != e.Type {
			r.Add(FeedDiffers, nil, "event %d is %s (%.8s, chain %.8s) in %s and %s (%.8s, chain %.8s) in %s", e.Seq,
				other.Type, other.Sum, other.Chain, other.Source, e.Type, e.Sum, e.Chain, e.Source)
		}
	}
}

func (r *Report) terms(feed []FeedEvent) {
	leader := map[uint64]FeedEvent{}
	for _, e := range feed {
		if e.Type != event.TypeLeaderElected.String() {
			continue
		}
		if was, known := leader[e.Term]; known && was.Leader != e.Leader {
			r.Add(TwoLeaders, nil, "%s and %s lead in term %d (events %d and %d)", was.Leader, e.Leader, e.Term, was.Seq, e.Seq)
		}
		leader[e.Term] = e
	}
}

// decision is what the feed says of a transaction.
type decision struct {
	commits, finals []uint64 // seqs
}

func (r *Report) decisions(txns []Txn, feed []FeedEvent) {
	decided := map[string]*decision{}
	for _, e := range feed {
		if e.Txn == "" {
			continue
		}
		d := decided[e.Txn]
		if d == nil {
			d = &decision{}
			decided[e.Txn] = d
		}
		switch {
		case e.Type == event.TypeTxnCommitted.String():
			d.commits = append(d.commits, e.Seq)
		case e.Final:
			d.finals = append(d.finals, e.Seq)
		}
	}
	for _, t := range txns {
		if t.ID == "" {
			continue
		}
		d := decided[t.ID]
		if d == nil {
			d = &decision{}
		}
		delete(decided, t.ID)
		bad := ""
		switch {
		case t.Outcome == OK && t.Seq > 0 && inside(feed, t.Seq) && !slices.Equal(d.commits, []uint64{t.Seq}):
			bad = fmt.Sprintf("acknowledged as event %d", t.Seq)
		case t.Outcome == Fail && len(d.commits) > 0:
			bad = "told to have failed"
		}
		d.check(r, t.ID, bad, &t)
	}
	for _, id := range sortedKeys(decided) { // of others, or of clients that no longer knew
		decided[id].check(r, id, "", nil)
	}
}

func sortedKeys(m map[string]*decision) []string {
	all := make([]string, 0, len(m))
	for id := range m {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// inside tells whether the part of the feed that was read has a seq.
func inside(feed []FeedEvent, seq uint64) bool {
	return len(feed) > 0 && seq >= feed[0].Seq && seq <= feed[len(feed)-1].Seq
}

func (d *decision) check(r *Report, id, bad string, t *Txn) {
	switch {
	case bad != "":
	case len(d.commits) > 1 || len(d.finals) > 1:
		bad = "decided"
	case len(d.commits) > 0 && len(d.finals) > 0:
		bad = "decided both ways"
	default:
		return
	}
	text, calls := "", []uint64(nil)
	if t != nil {
		text, calls = "\n"+say(*t), []uint64{t.Call}
	}
	r.Add(Decision, calls, "transaction %s is %s; the feed has commits %v and aborts for good %v%s", id, bad, d.commits, d.finals, text)
}

// Watches checks what watchers were given against the feed as the sources of the same log hold it: each watcher, over all its watches, gets
// every event that it wants exactly once, in order, from where it began; a watch goes on where the one before it ended; nothing comes that
// is below what was said to be done with, and no progress is told that the master has not made.
func Watches(l *Log) Report {
	r := Report{Checker: "watch"}
	types := map[uint64]string{}
	for _, e := range l.Events {
		types[e.Seq] = e.Type
	}
	state := map[string]*watching{}
	for _, s := range l.Watches {
		w := state[s.Watcher]
		if w == nil {
			w = &watching{}
			state[s.Watcher] = w
		}
		r.Checked++
		w.step(&r, s, types)
	}
	if len(types) == 0 {
		r.Checked = 0
	}
	r.empty()
	return r
}

// watching is how far a watcher has come.
type watching struct {
	began bool
	next  uint64
}

func (w *watching) step(r *Report, s WatchStep, types map[uint64]string) {
	bad := func(format string, args ...any) {
		r.Add(WatchBroken, nil, "watcher %s: %s", s.Watcher, fmt.Sprintf(format, args...))
	}
	if s.Fault != "" {
		bad("it cannot go on at event %d: %s", w.next, s.Fault)
		return
	}
	if s.Begun {
		if w.began && s.From != w.next {
			bad("it went on at event %d, it had come to %d", s.From, w.next)
		}
		if w.next = s.From; !w.began && s.From == 0 {
			w.next = cmp.Or(append(slices.Clone(s.Seqs), s.Next)...) // whatever came first
		}
		w.began = true
	}
	at := w.next
	if s.Missed > 0 { // it was told so
		if s.Missed != at || s.Next < at {
			bad("it was told that events %d to %d are gone where %d is next", s.Missed, s.Next, at)
		}
		w.next = s.Next
		return
	}
	wanted := func(from, to uint64) {
		for seq := from; seq < to; seq++ {
			if typ, known := types[seq]; known && (len(s.Types) == 0 || slices.Contains(s.Types, typ)) {
				bad("event %d (%s) did not come; %v did, up to %d", seq, typ, s.Seqs, s.Next)
				return
			}
		}
	}
	for _, seq := range s.Seqs {
		if seq < at {
			bad("event %d came where %d is next", seq, at)
			continue
		}
		wanted(at, seq)
		if typ, known := types[seq]; known && len(s.Types) > 0 && !slices.Contains(s.Types, typ) {
			bad("event %d (%s), which it does not want, came", seq, typ)
		}
		at = seq + 1
	}
	if s.Next < at || s.Newest+1 < s.Next {
		bad("progress up to %d was told; event %d came, and the master has %d", s.Next, at-1, s.Newest)
	}
	wanted(at, s.Next)
	w.next = max(at, s.Next)
}
