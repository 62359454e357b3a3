package history

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Sessions checks what answers say of the state that they come from, over all registers of one log: no client is told an earlier event
// or epoch of the shard map than before, and no answer is from before what was answered to anybody when it was asked for. A write is an
// event of its own, so it comes behind all of that.
func Sessions(h []Register) Report {
	r := Report{Checker: "sessions"}
	var all []*Register
	for i := range h {
		if h[i].Outcome == OK && h[i].RegisterAnswer.Seq > 0 {
			all = append(all, &h[i])
		}
	}
	r.Checked = len(all)
	r.empty()
	slices.SortStableFunc(all, func(a, b *Register) int { return cmp.Compare(a.Invoke, b.Invoke) })
	seqs, epochs := map[int]*Register{}, map[int]*Register{} // what each client was told last; not every answer has an epoch
	for _, o := range all {
		if was := seqs[o.Client]; was != nil && o.RegisterAnswer.Seq < was.RegisterAnswer.Seq {
			r.Add(StaleRead, []uint64{was.Call, o.Call}, "a session went back to event %d\n%s\n%s", o.RegisterAnswer.Seq, o.say(), was.say())
		}
		seqs[o.Client] = o
		if o.RegisterAnswer.Epoch == (event.Position{}) {
			continue
		}
		if was := epochs[o.Client]; was != nil && o.RegisterAnswer.Epoch.Less(was.RegisterAnswer.Epoch) {
			r.Add(StaleRead, []uint64{was.Call, o.Call}, "a session went back to epoch %s of the shard map, from %s\n%s\n%s", epoch(o), epoch(was), o.say(), was.say())
		}
		epochs[o.Client] = o
	}
	ended := slices.Clone(all)
	slices.SortFunc(ended, func(a, b *Register) int { return cmp.Compare(a.Return, b.Return) })
	var high *Register
	next := 0
	for _, o := range all {
		for ; ended[next].Return < o.Invoke; next++ {
			if high == nil || ended[next].RegisterAnswer.Seq > high.RegisterAnswer.Seq {
				high = ended[next]
			}
		}
		if high == nil || o.RegisterAnswer.Seq > high.RegisterAnswer.Seq || o.RegisterAnswer.Seq == high.RegisterAnswer.Seq && o.Kind == RegisterRead {
			continue
		}
		c := StaleRead
		if o.Kind != RegisterRead {
			c = NotLinear
		}
		r.Add(c, []uint64{high.Call, o.Call}, "answered from before what was answered when it began\n%s\n%s", high.say(), o.say())
	}
	return r
}

func epoch(o *Register) string {
	return fmt.Sprintf("(%d, %d)", o.RegisterAnswer.Epoch.N, o.RegisterAnswer.Epoch.Seq)
}
