package history

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// WriteEDN writes the transactions and registers of a stored history as Jepsen's tools read histories: one map a line, in the order of
// time, with :process, :type, :f, :value and :time in nanoseconds. Appends and reads of lists are [:append k v] and [:r k [v …]] of :f :txn, as
// Elle takes them; of other operations each is [:kind "id"].
func WriteEDN(w io.Writer, r io.Reader) error {
	log, err := ReadLog(r)
	if err != nil {
		return err
	}
	var all []ednLine
	for _, t := range log.Txns {
		value := ednTxn(t, nil)
		all = append(all, ednLine{t.Invoke, t.Call, t.Client, "invoke", "txn", value})
		if t.Return != Never {
			all = append(all, ednLine{t.Return, t.Call, t.Client, t.Outcome.String(), "txn", ednTxn(t, t.Results)})
		} else {
			all = append(all, ednLine{math.MaxInt64, t.Call, t.Client, "info", "txn", value})
		}
	}
	for _, g := range log.Registers {
		value := fmt.Sprintf("[%q %s]", g.Key, ednRegister(g, false))
		all = append(all, ednLine{g.Invoke, g.Call, g.Client, "invoke", string(g.Kind), value})
		if g.Return != Never {
			all = append(all, ednLine{g.Return, g.Call, g.Client, g.Outcome.String(), string(g.Kind), fmt.Sprintf("[%q %s]", g.Key, ednRegister(g, true))})
		} else {
			all = append(all, ednLine{math.MaxInt64, g.Call, g.Client, "info", string(g.Kind), value})
		}
	}
	slices.SortStableFunc(all, ednLine.compare)
	out := bufio.NewWriter(w)
	last := int64(0)
	for i, l := range all {
		if l.at == math.MaxInt64 {
			l.at = last // nobody knows when: behind everything
		}
		last = l.at
		fmt.Fprintf(out, "{:index %d, :process %d, :type :%s, :f :%s, :value %s, :time %d}\n", i, l.client, l.kind, l.f, l.value, l.at)
	}
	return out.Flush()
}

// ednLine is one line of the export.
type ednLine struct {
	at             int64
	call           uint64
	client         int
	kind, f, value string
}

func (l ednLine) compare(o ednLine) int {
	switch {
	case l.at != o.at:
		if l.at < o.at {
			return -1
		}
		return 1
	case l.call < o.call:
		return -1
	case l.call > o.call:
		return 1
	}
	return 0
}

// ednTxn is the operations of a transaction; results is nil when there are none.
func ednTxn(t Txn, results []transport.OpResult) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, op := range t.Ops {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch op.Kind {
		case transport.OpLearnAssociation:
			fmt.Fprintf(&b, "[:append %q %q]", op.ID, op.Target)
		case transport.OpReadNeighbors:
			read := "nil"
			if i < len(results) {
				read = fmt.Sprintf("%q", results[i].Neighbors) // [] of strings in both forms
			}
			fmt.Fprintf(&b, "[:r %q %s]", op.ID, read)
		default:
			fmt.Fprintf(&b, "[:%s %q]", strings.ReplaceAll(string(op.Kind), "_", "-"), op.ID)
		}
	}
	b.WriteByte(']')
	return b.String()
}

// ednRegister is the value of a register's operation, answered or asked for.
func ednRegister(g Register, answered bool) string {
	switch {
	case g.Kind == RegisterCAS:
		return fmt.Sprintf("[%d %q]", g.Expect, g.RegisterOp.Value)
	case g.Kind == RegisterWrite:
		return fmt.Sprintf("%q", g.RegisterOp.Value)
	case answered && g.Outcome == OK:
		return fmt.Sprintf("%q", g.RegisterAnswer.Value)
	}
	return "nil"
}
