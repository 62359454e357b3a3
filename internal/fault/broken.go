//go:build faults

package fault

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// mutants is what is broken in this process. Like what is armed, it is nobody's to hand around.
var mutants struct {
	load sync.Once
	live [1 << 8]atomic.Int32 // how often it was asked for; not 0: it is live
	said [1 << 8]atomic.Bool
}

// Broken tells whether a mutation is live: its place in the product then does the wrong thing. What GRID_MUTATION does not name
// exactly ends the process.
func Broken(m Mutation) bool {
	mutants.load.Do(func() {
		if _, err := Break(os.Getenv("GRID_MUTATION")); err != nil {
			refuse(fmt.Errorf("GRID_MUTATION: %w", err))
		}
	})
	if mutants.live[m].Load() == 0 {
		return false
	}
	if !mutants.said[m].Swap(true) {
		s := mutations[m-1]
		fmt.Fprintf(os.Stderr, "fault: mutation %s is live: %s\n", s.Name, s.What)
	}
	return true
}

// Break makes mutations live in this process, whatever runs in it, until mend is called: names, separated by commas.
func Break(names string) (mend func(), err error) {
	var list []Mutation
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' }) {
		m, ok := mutation(strings.TrimSpace(name))
		if !ok {
			return nil, fmt.Errorf("there is no mutation %q", name)
		}
		list = append(list, m)
	}
	for _, m := range list {
		mutants.live[m].Add(1)
	}
	return sync.OnceFunc(func() {
		for _, m := range list {
			mutants.live[m].Add(-1)
			mutants.said[m].Store(false)
		}
	}), nil
}

func mutation(name string) (Mutation, bool) {
	for _, s := range mutations {
		if s.Name == name {
			return s.Mutation, true
		}
	}
	return 0, false
}
