package event

import "cmp"

// Compare is negative, zero or positive as p is before, at or behind q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.N, q.N), cmp.Compare(p.Seq, q.Seq))
}

// Less tells whether p is before q.
func (p Position) Less(q Position) bool { return p.Compare(q) < 0 }
