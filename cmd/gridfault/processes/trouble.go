package processes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// alarms are what no fault explains.
var alarms = []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "unexpected fault address", "states differ", "digest differs", "diverge"}

// excuse is a line of level ERROR that some faults explain.
type excuse struct {
	says     *regexp.Regexp
	families []string // of kinds of faults; nil: it needs no fault
	reason   string
}

// peerless are words of hashicorp/raft about a peer that does not answer, or answers that it does not run yet or leads no more. It has them at
// level ERROR, and needs no fault for them: replicas start one after the other, and leadership is handed over in a healthy grid.
var peerless = regexp.MustCompile(`msg="raft: (failed to (make requestVote RPC|make pre-vote RPC|make requestPreVote RPC|heartbeat to|appendEntries to|` +
	`pipeline appendEntries|start pipeline replication to|decode incoming command|contact|get conn|flush response|make timeout now request|accept connection)|` +
	`peer has newer term, stopping replication)`)

// halfSent is a snapshot whose way to a peer was cut off; one that the peer refuses is trouble.
var halfSent = regexp.MustCompile(`msg="raft: failed to (install snapshot|send snapshot to)" .*(closed network connection|connection reset|connection refused|broken pipe|EOF|timeout)`)

// These are what programs say when they are ended, and when their disks fail: that is what they have to do.
var (
	ends  = []string{"kill", "power", "disk", "corrupt", "sink", "point", "raft", "squeeze"}
	disks = []string{"power", "disk", "corrupt", "sink", "point"}

	nodeEnds = regexp.MustCompile(`msg="(node crashed|node ended while the agent was away)"`)
	tooOld   = regexp.MustCompile(`msg="raft: failed to get log" .*error="log not found"`)
	damaged  = regexp.MustCompile(`(msg="raft: CRC checksum failed"|is damaged|the checksum does not match)`)
	tooShort = regexp.MustCompile(`msg="raft: failed to restore snapshot" .*entries between are lost`)
	closing  = regexp.MustCompile(`msg="the masters refuse to stream the shard map; .*the server is closing`)
	stalled  = regexp.MustCompile(`msg="a follower answers heartbeats and gets no further`)
	diskFail = regexp.MustCompile(`(input/output error|no space left on device|read-only file system|no answer within|armed at|not writable)`)
)

// excuses are looked through in order. Without families, or with a fault of none of them, a line is trouble.
var excuses = []excuse{
	{peerless, nil, "a peer that is silent, starts, or has a new leader"},
	{halfSent, nil, "a peer that has gone while a snapshot was sent to it"},
	{tooOld, nil, "a replica needs entries that are behind a snapshot, and gets that"},
	{closing, []string{"raft"}, "a master that is removed ends its streams"},
	{stalled, []string{"net", "squeeze"}, "a follower that has no time, or a line that loses, gets no further"},
	{damaged, []string{"corrupt"}, "a file was damaged, and that was found"},
	{tooShort, []string{"corrupt"}, "the newest snapshot was damaged, and the log does not go on behind the one before"},
	{nodeEnds, ends, "an agent reports the end of a node, which the fault has ended or has made leave"},
	{diskFail, disks, "a disk fails"},
}

// maxTroubles bounds what is reported.
const maxTroubles = 100

// Trouble implements rig.Grid.
func (g *Grid) Trouble() []string {
	g.mu.Lock()
	list := g.troubles
	g.troubles = nil
	g.mu.Unlock()
	err := g.logs.each(func(f *logFile, line string, k rig.Kind) {
		if len(list) < maxTroubles && troubling(line, k) {
			list = append(list, fmt.Sprintf("%s, %s: %s", f.m.id, when(k), line))
		}
	})
	if err != nil {
		list = append(list, err.Error())
	}
	return list
}

func when(k rig.Kind) string {
	if k == "" {
		return "before any fault"
	}
	return "since " + string(k)
}

// troubling tells whether nothing explains a line.
func troubling(line string, k rig.Kind) bool {
	for _, a := range alarms {
		if strings.Contains(line, a) {
			return true
		}
	}
	if !strings.Contains(line, " level=ERROR ") {
		return false
	}
	return !slices.ContainsFunc(excuses, func(e excuse) bool { return e.covers(line, k) })
}

func (e excuse) covers(line string, k rig.Kind) bool {
	if !e.says.MatchString(line) {
		return false
	}
	family, _, _ := strings.Cut(string(k), ".")
	return e.families == nil || slices.Contains(e.families, family)
}
