package raftgroup

import "testing"

// TestDrainLeavesWhatWasWithdrawn: a proposal gets one answer, also when its caller leaves while the group closes.
func TestDrainLeavesWhatWasWithdrawn(t *testing.T) {
	q := newQueue()
	ps := make([]*proposal, 6)
	for i := range ps {
		ps[i] = &proposal{}
		q.add(i%2 == 1, ps[i])
	}
	for _, i := range []int{2, 3} { // behind others that still wait
		if !q.withdraw(ps[i]) {
			t.Fatalf("proposal %d is taken", i)
		}
	}
	left := map[*proposal]bool{}
	for _, p := range q.drain() {
		left[p] = true
	}
	if len(left) != 4 || left[ps[2]] || left[ps[3]] {
		t.Errorf("%d proposals are left, withdrawn ones among them: %v, %v", len(left), left[ps[2]], left[ps[3]])
	}
	if q.withdraw(ps[0]) || len(q.drain()) > 0 {
		t.Error("drained ones can be taken again")
	}
}
