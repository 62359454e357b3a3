package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gridmasterProc is one gridmaster of a test.
type gridmasterProc struct {
	id    string
	addr  string // as in --peers
	grid  string
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{}
}

// masterFleet is gridmasters without agents.
type masterFleet struct {
	t     *testing.T
	root  string
	procs map[string]*gridmasterProc
}

// newMaster gives a master an id and free ports.
func (f *masterFleet) newMaster(id string) *gridmasterProc {
	f.t.Helper()
	var ports [3]string
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.t.Fatal(err)
		}
		defer l.Close()
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	p := &gridmasterProc{id: id, addr: fmt.Sprintf("%s=127.0.0.1:%s/%s/%s", id, ports[0], ports[1], ports[2]), grid: "127.0.0.1:" + ports[2]}
	f.procs[id] = p
	return p
}

func (f *masterFleet) start(p *gridmasterProc, peers string, args ...string) {
	f.t.Helper()
	p.cmd = exec.Command(filepath.Join(binaries, "gridmaster"), append([]string{"--id", p.id, "--data", f.dir(p.id), "--peers", peers}, args...)...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // its status is read from ProcessState
		close(ended)
	}(p.cmd, p.ended)
}

func (f *masterFleet) dir(id string) string { return filepath.Join(f.root, id) }

func (f *masterFleet) end(p *gridmasterProc, sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended
	<-p.ended
	p.cmd = nil
}

// raft runs gridctl raft over one master.
func (f *masterFleet) raft(over *gridmasterProc, args ...string) (string, int) {
	cmd := exec.Command(filepath.Join(binaries, "gridctl"), append([]string{"--master", over.grid, "--output", "json", "raft"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+f.root)
	out, _ := cmd.Output() // its status says it
	return string(out), cmd.ProcessState.ExitCode()
}

type raftPeer struct {
	ID         string `json:"id"`
	Address    string `json:"address"`
	Suffrage   string `json:"suffrage"`
	Leader     bool   `json:"leader"`
	MatchIndex uint64 `json:"match_index"`
}

// peersWait is long: a learner is promoted after five seconds without an election, which a busy machine may not have at once.
const peersWait = time.Minute

// peers waits until `raft peers` over a master is right.
func (f *masterFleet) peers(over *gridmasterProc, what string, right func(voters []string, leader string) bool) (leader string) {
	f.t.Helper()
	eventually(f.t, peersWait, what, func() (bool, string) {
		out, status := f.raft(over, "peers")
		var peers []raftPeer
		if status != 0 || json.Unmarshal([]byte(out), &peers) != nil {
			return false, out
		}
		var voters []string
		leader = ""
		for _, p := range peers {
			if p.Suffrage == "voter" {
				voters = append(voters, p.ID)
			}
			if p.Leader {
				leader = p.ID
			}
		}
		return leader != "" && right(voters, leader), out
	})
	return leader
}

// TestMastersComeAndGo adds a fourth master to three real ones, takes the leader out, and lets one move: with the words an
// operator has, over whichever master.
func TestMastersComeAndGo(t *testing.T) {
	t.Parallel()
	f := &masterFleet{t: t, root: t.TempDir(), procs: map[string]*gridmasterProc{}}
	t.Cleanup(func() {
		for _, p := range f.procs {
			f.end(p, syscall.SIGTERM)
			if t.Failed() {
				t.Logf("--- %s\n%s", p.id, p.log.Bytes()[max(0, p.log.Len()-3000):])
			}
		}
	})
	one, two, three := f.newMaster("m1"), f.newMaster("m2"), f.newMaster("m3")
	list := strings.Join([]string{one.addr, two.addr, three.addr}, ",")
	for _, p := range []*gridmasterProc{one, two, three} {
		f.start(p, list, "--bootstrap", "--replicas", "1")
	}
	f.peers(one, "three voters", func(voters []string, _ string) bool { return len(voters) == 3 })

	if out, status := f.raft(one, "add", "m9"); status != 3 || !strings.Contains(out, "--join") {
		t.Errorf("adding a master that does not run: exit %d, %s", status, out)
	}
	four := f.newMaster("m4")
	f.start(four, four.addr+","+two.addr, "--join")
	if out, status := f.raft(one, "add", "m4"); status != 0 {
		t.Fatalf("raft add: exit %d, %s", status, out)
	}
	f.peers(two, "four voters", func(voters []string, _ string) bool { return len(voters) == 4 })
	if out, status := f.raft(three, "transfer", "--to", "m4"); status != 0 || !strings.Contains(out, `"m4"`) {
		t.Fatalf("raft transfer: exit %d, %s", status, out)
	}

	if out, status := f.raft(one, "remove", "m4"); status != 5 {
		t.Errorf("raft remove without --yes: exit %d, %s", status, out)
	}
	if out, status := f.raft(one, "remove", "m4", "--yes"); status != 0 {
		t.Fatalf("raft remove of the leader: exit %d, %s", status, out)
	}
	select {
	case <-four.ended:
	case <-time.After(peersWait):
		t.Fatal("the removed master does not end")
	}
	if status := four.cmd.ProcessState.ExitCode(); status != 3 || !strings.Contains(four.log.String(), "removed from the grid") {
		t.Errorf("the removed master ends with status %d", status)
	}
	f.peers(three, "three voters again", func(voters []string, leader string) bool { return len(voters) == 3 && leader != "m4" })

	f.end(two, syscall.SIGTERM)
	moved := f.newMaster("m2")
	f.start(moved, strings.Join([]string{one.addr, moved.addr, three.addr}, ","))
	at := strings.TrimPrefix(moved.addr[:strings.Index(moved.addr, "/")], "m2=")
	eventually(t, peersWait, "the others find the master that moved", func() (bool, string) {
		out, _ := f.raft(three, "peers")
		return strings.Contains(out, at), out
	})
	if out, status := f.raft(moved, "snapshot", "--on", "m1"); status != 0 || !strings.Contains(out, `"m1"`) {
		t.Errorf("raft snapshot: exit %d, %s", status, out)
	}
}
