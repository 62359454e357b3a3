package fsm

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestData runs the files in testdata/machine: what goes in, what is answered, what is recorded. Commands:
//
//	apply [after=<seconds>] [index=<n>]   one entry; each line of input is a command: the flat JSON of its event, and beside it
//	                          "issued_s" (seconds since the test began), "emitter", "emitter_seq"
//	formed agents=N shards=N  a grid that runs
//	show <what>               a part of the state
//	restart                   goes on from a snapshot
//
// The answer of a command is "= seq value" or "! kind: message"; the events it brought follow, each with its cause.
func TestData(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "machine"), func(t *testing.T, path string) {
		d := &dataRun{r: newReplica(t)}
		datadriven.RunTest(t, path, d.command)
		d.r.t = t
		checkReplay(t, d.r)
	})
}

type dataRun struct{ r *replica }

func (d *dataRun) command(t *testing.T, td *datadriven.TestData) string {
	d.r.t = t
	switch td.Cmd {
	case "apply":
		after, index := 0, 1
		td.MaybeScanArgs(t, "after", &after)
		d.r.now += int64(after) * second
		td.MaybeScanArgs(t, "index", &index)
		d.r.index = max(d.r.index, uint64(index)-1)
		return d.apply(t, td.Input)
	case "formed":
		var agents, shards int
		td.ScanArgs(t, "agents", &agents)
		td.ScanArgs(t, "shards", &shards)
		d.r = formed(t, agents, shards)
		return d.eventsFrom(1)
	case "restart":
		d.r.m = reborn(t, d.r.m.View())
		return ""
	case "show":
		return show(d.r.m.View(), td.CmdArgs[0].Key)
	}
	t.Fatalf("unknown command %q", td.Cmd)
	return ""
}

func (d *dataRun) apply(t *testing.T, input string) string {
	var out strings.Builder
	var commands []*event.Command
	for _, line := range strings.Split(input, "\n") {
		commands = append(commands, commandOf(t, line))
	}
	from := d.r.m.View().Seq() + 1
	for _, a := range d.r.apply(commands...) {
		if a.Err != nil {
			fmt.Fprintf(&out, "! %s: %s", a.Err.Kind, a.Err.Error())
			if a.Seq > 0 || a.Value > 0 {
				fmt.Fprintf(&out, " (seq %d, value %d)", a.Seq, a.Value)
			}
		} else {
			fmt.Fprintf(&out, "= %d", a.Seq)
			if a.Value > 0 {
				fmt.Fprintf(&out, " value %d", a.Value)
			}
		}
		out.WriteByte('\n')
	}
	out.WriteString(d.eventsFrom(from))
	return out.String()
}

func (d *dataRun) eventsFrom(seq uint64) string {
	var out strings.Builder
	for _, e := range d.r.events(seq) {
		fmt.Fprintf(&out, "%d %s: %s", e.Seq, e.Type, event.Info(e.Type).Describe(e.Body))
		if e.Cause > 0 {
			fmt.Fprintf(&out, " [cause %d]", e.Cause)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// commandOf reads one line of an apply.
func commandOf(t *testing.T, line string) *event.Command {
	t.Helper()
	e, err := event.FromJSON([]byte(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	extra := struct {
		Issued     int64  `json:"issued_s"`
		Emitter    string `json:"emitter"`
		EmitterSeq uint64 `json:"emitter_seq"`
	}{}
	if err := json.Unmarshal([]byte(line), &extra); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	c := event.NewCommand(e.Actor, e.Body)
	c.RequestID, c.Cause, c.Emitter, c.EmitterSeq = e.RequestID, e.Cause, extra.Emitter, extra.EmitterSeq
	if strings.Contains(line, `"issued_s"`) {
		c.Issued = epoch + extra.Issued*second
	}
	return c
}

// show prints a part of the state, an object a line.
func show(s *State, what string) string {
	var out strings.Builder
	switch what {
	case "cluster":
		c := s.Cluster()
		fmt.Fprintf(&out, "%s since %d (%s): %d/%d agents, %d/%d nodes\n", c.Level, c.Since, c.Reason, c.HealthyAgents, c.TotalAgents, c.RunningNodes, c.TotalNodes)
	case "agents":
		for a := range s.Agents() {
			rev, nodes := s.Assignments(a.ID)
			fmt.Fprintf(&out, "%s %s since %d, revision %d, %d desired, heard of after %d s\n", a.ID, a.Status, a.Changed, rev, len(nodes), (s.Pulse(a.ID).Last-epoch)/second)
		}
	case "nodes":
		for n := range s.Nodes() {
			fmt.Fprintf(&out, "%s on %s %s start %d restarts %d pid %d at %q %s\n", n.ID, n.AgentID, n.Status, n.Start, n.RestartCount, n.PID, n.Endpoint, n.LastError)
		}
	case "shards":
		m := s.ShardMap()
		fmt.Fprintf(&out, "epoch (%d, %d), %s over %d\n", m.Epoch.N, m.Epoch.Seq, m.Strategy, m.Base)
		for sh := range s.Shards() {
			at, _ := m.Shards[sh.Number].LeaderEndpoint()
			fmt.Fprintf(&out, "%s %s leader %s at %q term %d, %d of %d live, lost %v\n", sh.ID, sh.State, sh.Leader, at, sh.Term, sh.Live, len(sh.Voters), sh.Lost)
			if mem := s.Members(sh); mem.Configuration > 0 || mem.Since > 0 {
				fmt.Fprintf(&out, "  voters %v learner %q leaving %q configuration %d since %d\n", sh.Voters, mem.Learner.NodeID, mem.Leaving.Owner(), mem.Configuration, mem.Since)
			}
		}
	case "txns":
		h := s.Horizon()
		fmt.Fprintf(&out, "horizon (%d, %d), %d open\n", h.N, h.Seq, s.OpenTxnCount())
		for x := range s.txns.all() {
			fmt.Fprintf(&out, "%s… committed %v final %v attempt %d begin (%d, %d) seq %d completed %v aborted %v shards %v\n",
				x.ID.String()[:4], x.Committed, x.Final, x.Attempt, x.Begin.N, x.Begin.Seq, x.Seq, x.Completed, x.Aborted, x.Shards)
		}
	case "requests":
		fmt.Fprintf(&out, "forgotten %d s\n", (s.Forgotten()-epoch)/second)
		for q := range s.requests.all() {
			fmt.Fprintf(&out, "%s… issued %d s outcome %d seq %d value %d error %v\n", q.ID.String()[:4], (q.Issued-epoch)/second, q.Outcome, q.Seq, q.Value, q.Err != nil)
		}
	case "masters":
		id, term := s.Leader()
		fmt.Fprintf(&out, "%s leads in term %d\n", id, term)
		for m := range s.Masters() {
			fmt.Fprintf(&out, "%s %s at %s level %d unreachable %v\n", m.ID, m.Suffrage, m.Address, m.Level, m.Unreachable)
		}
	case "sinks":
		o := s.Outbox()
		fmt.Fprintf(&out, "outbox %d events\n", o.Events)
		for k := range s.Sinks() {
			c := s.Cursor(k.Name)
			fmt.Fprintf(&out, "%s at %s (%s) store %q through %d\n", k.Name, k.Address, k.Class, c.SinkID, c.Through)
		}
	case "types":
		for _, a := range s.AssociationTypes() {
			fmt.Fprintf(&out, "%d %s\n", a.Number, a.Name)
		}
	default:
		return "show what?"
	}
	return out.String()
}
