package episode

import (
	"slices"
	"time"

	"github.com/sutra-grid/sutra-grid/internal/history"
)

// tick is the length of a Bucket at least; a long run has longer ones.
const tick = 250 * time.Millisecond

// mostBuckets bounds a timeline.
const mostBuckets = 1200

// timeline is what the workloads were told, in stretches.
func (r *run) timeline() []Bucket {
	step := max(tick, (r.ended / mostBuckets).Round(tick))
	out := make([]Bucket, r.ended/step+1)
	took := make([][]time.Duration, len(out))
	for i := range out {
		out[i].At = time.Duration(i) * step
	}
	for _, l := range r.loads {
		offset := l.begun.Sub(r.begun)
		for _, s := range spans(l.log) {
			at := offset + time.Duration(s.Return)
			if s.Outcome == history.Unknown {
				at = offset + time.Duration(s.Invoke) // when it ended is not known
			}
			i := int(at / step)
			if at < 0 || i >= len(out) {
				continue // before the load, or behind it
			}
			switch s.Outcome {
			case history.OK:
				out[i].OK++
				took[i] = append(took[i], time.Duration(s.Return-s.Invoke))
			case history.Fail:
				out[i].Failed++
			default:
				out[i].Unknown++
			}
		}
	}
	for i, all := range took {
		if len(all) > 0 {
			slices.Sort(all)
			out[i].Median, out[i].Worst = all[len(all)/2], all[len(all)-1]
		}
	}
	r.leads(out, step)
	return out
}

// spans is all requests of a history.
func spans(log *history.Log) []history.Span {
	var all []history.Span
	for _, t := range log.Txns {
		all = append(all, history.Span{Call: t.Call, Invoke: t.Invoke, Return: t.Return, Outcome: t.Outcome})
	}
	for _, g := range log.Registers {
		all = append(all, g.Span)
	}
	return all
}

// leads notes in each stretch who led the masters at its end.
func (r *run) leads(out []Bucket, step time.Duration) {
	at, now := 0, ""
	for i := range out {
		for at < len(r.leaders) && r.leaders[at].at < out[i].At+step {
			now = r.leaders[at].who
			at++
		}
		out[i].Leader = now
	}
}
