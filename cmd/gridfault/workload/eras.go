package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// eras changes what a load works on after so many transactions: what is judged together stays small. The client that finds an era to be
// over creates what the next one needs; the others go on with the old one meanwhile.
type eras struct {
	every int64
	open  func(ctx context.Context, u *user, era int64) error

	drawn   atomic.Int64
	present atomic.Int64
	opening sync.Mutex
}

// next is the era of a client's next transaction.
func (e *eras) next(ctx context.Context, u *user) int64 {
	era := e.present.Load()
	if e.drawn.Add(1) < (era+1)*e.every || !e.opening.TryLock() {
		return era
	}
	defer e.opening.Unlock()
	if era = e.present.Load(); e.drawn.Load() < (era+1)*e.every {
		return era
	}
	if e.open(ctx, u, era+1) == nil { // what could not be done is tried by whoever comes next
		e.present.Store(era + 1)
	}
	return e.present.Load()
}

// last is the last era in which anything was done.
func (e *eras) last() int64 { return e.present.Load() }

// prefixed is what a checker must know of a workload whose concepts have a prefix.
type prefixed struct {
	Prefix string `json:"prefix"`
}

func having(prefix string) history.Concepts {
	return func(id string) bool { return strings.HasPrefix(id, prefix) }
}

// params is what the runs of a workload have noted for their checkers.
func params[T any](l *history.Log, id string) (all []T, err error) {
	for _, n := range l.Notes {
		if n.Name != id {
			continue
		}
		var p T
		if err := json.Unmarshal(n.Value, &p); err != nil {
			return nil, fmt.Errorf("note %s: %w", id, err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing is noted of workload %s", id)
	}
	return all, nil
}

// prefixes is the concepts of all runs of a workload.
func prefixes(l *history.Log, id string) (history.Concepts, error) {
	all, err := params[prefixed](l, id)
	return func(id string) bool {
		for _, p := range all {
			if strings.HasPrefix(id, p.Prefix) {
				return true
			}
		}
		return false
	}, err
}

func learn(id string, attributes map[string]string) transport.Op {
	op := transport.Op{Kind: transport.OpLearnConcept, ID: id, Strength: 1, Confidence: 1}
	if attributes != nil {
		op.Metadata = &transport.Metadata{Attributes: attributes}
	}
	return op
}

func link(from, to string) transport.Op {
	return transport.Op{Kind: transport.OpLearnAssociation, ID: from, Target: to, Confidence: 1}
}
