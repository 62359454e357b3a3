package processes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestEveryKindHasAHandler(t *testing.T) {
	without := []rig.Kind{}
	for _, s := range rig.Kinds() {
		if handlers[s.Kind] == nil {
			without = append(without, s.Kind)
		}
	}
	if len(without) > 0 {
		t.Errorf("without a handler: %v", without)
	}
}

func TestOrphans(t *testing.T) {
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		fmt.Sprintf("/tmp/gridfault-%d-%s-1/machines/master-1", os.Getpid(), start): false, // ours
		fmt.Sprintf("/tmp/gridfault-%d-%s0-1/x", os.Getpid(), start):                true,  // an earlier process had our pid
		fmt.Sprintf("gridfault-%d-%s-2-switch", ended.Process.Pid, start):           true,
		"/tmp/gridfault-abc": false,
		"/run/netns/other":   false,
	} {
		if got := orphan(text); got != want {
			t.Errorf("%s is of a run that ended early: %v, want %v", text, got, want)
		}
	}
}

func TestNodesAreKnownByTheirCommandLines(t *testing.T) {
	m := &machine{id: "agent-1", role: roleAgent, dir: "/run/machines/agent-1"}
	for _, c := range []struct {
		line string
		node event.NodeID
	}{
		{"/bin/gridnode --data /run/machines/agent-1/data/nodes/node-7/data --node-id node-7 --agent-id agent-1", "node-7"},
		{"/bin/sh /run/bin/agent-1/gridnode --data /run/machines/agent-1/data/nodes/node-7/data --node-id node-7", "node-7"},
		{"/bin/gridnode --data /run/machines/agent-10/data/nodes/node-8/data --node-id node-8", ""},
		{"/bin/gridagent hold /bin/gridnode --data /run/machines/agent-1/data/nodes/node-7/data --node-id node-7", ""},
		{"/bin/gridagent --data /run/machines/agent-1/data", ""},
		{"vi /run/machines/agent-1/data/agent.json --node-id node-7", ""},
	} {
		line := strings.ReplaceAll(c.line, " ", "\x00") + "\x00"
		node, is := m.nodeOf(line)
		if is = is && ours(line); is != (c.node != "") || is && node != c.node {
			t.Errorf("%s: %q, %v; want %q", c.line, node, is, c.node)
		}
	}
}

func TestTrouble(t *testing.T) {
	const said = "time=x level=ERROR msg="
	for _, c := range []struct {
		line string
		kind rig.Kind
		want bool
	}{
		{"time=x level=INFO msg=leading", "", false},
		{"panic: runtime error", rig.KillAll, true},
		{"WARNING: DATA RACE", rig.PowerAll, true},
		{said + `"something new" error=x`, rig.KillAll, true},
		{said + `"raft: failed to heartbeat to" error="connection refused"`, "", false},
		{said + `"raft: failed to send snapshot to" peer=x error="read tcp 1:1->2:2: use of closed network connection"`, "", false},
		{said + `"raft: failed to install snapshot" id=x error="the state is of another grid"`, "", true},
		{said + `"raft: failed to restore snapshot" id=x error="it ends at 5 and the log begins at 8: entries between are lost"`, "", true},
		{said + `"raft: failed to restore snapshot" id=x error="it ends at 5 and the log begins at 8: entries between are lost"`, rig.CorruptFlip, false},
		{said + `"node crashed" node=node-1`, "", true},
		{said + `"node crashed" node=node-1`, rig.KillShard, false},
		{said + `"the node cannot go on" error="sync: input/output error"`, rig.KillShard, true},
		{said + `"the node cannot go on" error="sync: input/output error"`, rig.DiskError, false},
	} {
		if got := troubling(c.line, c.kind); got != c.want {
			t.Errorf("%q since %q is trouble: %v, want %v", c.line, c.kind, got, c.want)
		}
	}
}

// TestLogsKnowWhatWasGoingOn: a line belongs to the last fault that had begun when it was said, also once the files are gone.
func TestLogsKnowWhatWasGoingOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	say := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	l, m := newLogs(), &machine{}
	l.add(path, m)
	say("one\n")
	l.begin(rig.KillAll)
	at := l.place(m)
	say("two\nthree\n")
	l.begin(rig.PowerAll)
	l.begin(rig.DiskFull)
	say("four\n")
	if said, err := l.since(at); err != nil || said != "two\nthree\nfour\n" {
		t.Errorf("since: %q, %v", said, err)
	}
	check := func(want string) {
		t.Helper()
		var got []string
		if err := l.each(func(_ *logFile, line string, k rig.Kind) { got = append(got, line+" "+string(k)) }); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("one |two kill.all|three kill.all|four disk.full")
	say("fi")
	check("") // nothing twice, nothing by half
	say("ve\nsix\nseven")
	check("five disk.full|six disk.full")
	l.keep()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("seven disk.full")
}

// TestClockCode: what the code adds stands where the code looks for it, and its branches lead to the ends that they name.
func TestClockCode(t *testing.T) {
	next := func(at, length int) int { return at + length }
	for what, c := range map[string][2]int{
		"seconds":     {next(0x0b, 7) + int(clockCode[0x0e]), clockOffset},
		"nanoseconds": {next(0x19, 7) + int(clockCode[0x1c]), clockOffset + 8},
		"done":        {next(0x09, 2) + int(clockCode[0x0a]), len(clockCode) - 1},
		"store":       {next(0x27, 2) + int(clockCode[0x28]), 0x33},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %#x, want %#x", what, c[0], c[1])
		}
	}
	if len(clockCode) > clockOffset || clockOffset+16 > clockRoom {
		t.Errorf("%d bytes of code, offset at %d, %d in all", len(clockCode), clockOffset, clockRoom)
	}
}

func TestValidate(t *testing.T) {
	c := DefaultConfig()
	c.Programs, c.Masters, c.Agents, c.Shards, c.TrailingLogs = t.TempDir(), 2, 2, 0, 3
	c.Env = []string{"GRID_MUTATION=x", "a b=c"}
	err := c.Validate()
	for _, want := range []string{"gridmaster", `env: "a b=c"`, "masters: 2", "agents: 2", "shards: 0", "trailing logs: 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"plain", "it's", `a "b" $c \d`, "two\nlines"} {
		if out, err := exec.Command("sh", "-c", "printf %s "+quote(s)).Output(); err != nil || string(out) != s {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	}
}
