package dev

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
)

// printer writes whole lines, from any goroutine. What cannot be written (a closed pipe) is nobody's loss.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) say(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, line)
}

// table prints where everything is.
func (p *printer) table(f devFile, data string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROCESS\tPID\tLISTENS ON")
	for _, m := range f.Masters {
		fmt.Fprintf(t, "%s\t%d\tgrid %s, http %s, raft %s\n", m.ID, m.PID, m.Grid, m.HTTP, m.Raft)
	}
	for _, a := range f.Agents {
		fmt.Fprintf(t, "%s\t%d\t%s\n", a.ID, a.PID, a.Address)
	}
	for _, n := range f.Nodes {
		fmt.Fprintf(t, "%s\t%d\t%s (%d replicas, on %s)\n", n.ID, n.PID, n.Endpoint, len(n.Shards), n.Agent)
	}
	fmt.Fprintf(t, "events\t\t%s\n", f.Events)
	_ = t.Flush() // see printer
	fmt.Fprintf(p.w, "data and logs: %s\n", data)
}
