package vector

// scored is a slot with its similarity to a query, ordered like a number: the larger is nearer, and of two that are equally
// near the lower slot comes first. Upper half: the dot product, shifted to unsigned; lower half: the slot's complement.
type scored uint64

func score(dot int32, slot uint32) scored {
	return scored(uint32(dot)^1<<31)<<32 | scored(^slot)
}

func (s scored) slot() uint32 { return ^uint32(s) }
func (s scored) dot() int32   { return int32(uint32(s>>32) ^ 1<<31) }

// heap is a binary heap with its smallest element first. Complements make it one with the largest first.
type heap []scored

func (h *heap) push(s scored) {
	*h = append(*h, s)
	a := *h
	i := len(a) - 1
	for i > 0 {
		up := (i - 1) / 2
		if a[up] <= s {
			break
		}
		a[i] = a[up]
		i = up
	}
	a[i] = s
}

// pop takes the smallest.
func (h *heap) pop() scored {
	a := *h
	least, last := a[0], a[len(a)-1]
	*h = a[:len(a)-1]
	if len(*h) > 0 {
		(*h)[0] = last
		h.sink(0)
	}
	return least
}

// replace takes the smallest and adds s.
func (h heap) replace(s scored) {
	h[0] = s
	h.sink(0)
}

// order makes a heap of elements in any order.
func (h heap) order() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}

func (h heap) sink(i int) {
	s := h[i]
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1] < h[down] {
			down++
		}
		if h[down] >= s {
			break
		}
		h[i] = h[down]
		i = down
	}
	h[i] = s
}
