package history

import (
	"cmp"
	"fmt"
	"slices"
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
	before := map[int]*Register{}
	for _, o := range all {
		was := before[o.Client]
		before[o.Client] = o
		if was == nil {
			continue
		}
		if o.RegisterAnswer.Seq < was.RegisterAnswer.Seq || o.RegisterAnswer.Epoch.Less(was.RegisterAnswer.Epoch) {
			r.add(StaleRead, []uint64{was.Call, o.Call}, "a session went back to event %d and epoch %s\n%s\n%s, epoch %s", o.RegisterAnswer.Seq, epoch(o), o.say(), was.say(), epoch(was))
		}
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
		r.add(c, []uint64{high.Call, o.Call}, "answered from before what was answered when it began\n%s\n%s", high.say(), o.say())
	}
	return r
}

func epoch(o *Register) string {
	return fmt.Sprintf("(%d, %d)", o.RegisterAnswer.Epoch.N, o.RegisterAnswer.Epoch.Seq)
}
