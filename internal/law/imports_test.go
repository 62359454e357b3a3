package law

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/sutra-grid/sutra-grid/"

// edges is the import law: for each package (or folder, when the key ends in "/...") what of ours its code may import, and
// why. What is not listed is forbidden. Test files may import anything below them or beside them.
var edges = map[string][]struct{ target, reason string }{
	"internal/pack":      {},
	"internal/law":       {},
	"internal/graphwalk": {},
	"fsm/event":          {{"internal/pack", "one codec for everything that is encoded"}},
	"fsm/shardmap":       {{"fsm/event", "ids"}},
	"fsm": {
		{"fsm/event", "the vocabulary"},
		{"fsm/shardmap", "the map is part of the state"},
		{"internal/fault", "mutations; in a release a constant, so what it imports is no part of the state machine"},
		{"internal/pack", "snapshots"},
	},
	"transport": {
		{"fsm/event", "ids and errors in messages"},
		{"fsm/shardmap", "the map in messages"},
		{"internal/pack", "the enum codec"},
	},
	"internal/learn": {
		{"fsm/event", "error kinds"},
		{"transport", "operations, options and limits"},
	},
	"internal/history": {
		{"fsm/event", "kinds of errors, and positions"},
		{"transport", "operations and results"},
	},
	"internal/txnjson": {
		{"fsm/event", "ids and error kinds"},
		{"transport", "operations, results and limits"},
	},
	"internal/load": {
		{"client", "load comes from the library, as users' does"},
		{"fsm/event", "events that are committed, and kinds of errors"},
		{"fsm/shardmap", "which concepts lie on different shards"},
		{"transport", "the masters, and requests"},
	},
	"internal/semanticwalk": {
		{"fsm/event", "error kinds"},
		{"transport", "the semantic requests and their limits"},
	},
	"internal/emit": {
		{"fsm/event", "what is emitted"},
		{"transport", "its form in messages, and the back-off"},
	},
	"internal/fault":   {},
	"internal/overdue": {},
	"internal/trend":   {},
	"internal/usage":   {},
	"internal/latchfs": {
		{"internal/fault", "fault points"},
		{"internal/overdue", "the deadline of an operation"},
	},
	"internal/datadir": {{"fsm/event", "ids and incarnation in IDENTITY"}, {"internal/fault", "fault points"}},
	"internal/raftgroup": {
		{"internal/fault", "fault points"},
		{"fsm/event", "replica ids and error kinds"},
		{"internal/datadir", "atomic files"},
		{"internal/overdue", "the deadline of a write"},
		{"internal/pack", "the entry codec"},
		{"transport", "the network and the first byte of a raft connection"},
	},
	"storagenode/embed": {
		{"fsm/event", "error kinds"},
		{"fsm/shardmap", "murmur3, in its one place"},
		{"transport", "the back-off"},
	},
	"storagenode/lock": {{"fsm/event", "transaction ids"}, {"internal/fault", "mutations"}},
	"storagenode/engine": {
		{"internal/fault", "fault points"},
		{"internal/latchfs", "the latch over the store's files"},
		{"fsm/event", "ids and errors"},
		{"internal/pack", "records"},
		{"internal/raftgroup", "the engine is a group's state machine"},
		{"storagenode/lock", "the lock table"},
		{"transport", "operations and limits"},
	},
	"storagenode/semantic": {{"transport", "names of types, domains and relations; filters"}},
	"storagenode/vector": {
		{"fsm/event", "errors of bad queries"},
		{"internal/fault", "fault points"},
		{"transport", "limits of ids and dimensions"},
	},
	"storagenode/nearest": {
		{"fsm/event", "error kinds"},
		{"storagenode/engine", "the vectors, and the record of what changed"},
		{"storagenode/vector", "the index that it keeps"},
		{"transport", "the query and its results"},
	},
	"storagenode/vector/vectortest": {},
	"storagenode": {
		{"fsm/event", "ids and errors"},
		{"fsm/shardmap", "ownership"},
		{"internal/datadir", "identity and lock"},
		{"internal/emit", "readings of the node's own"},
		{"internal/fault", "labelled steps of a transaction"},
		{"internal/graphwalk", "paths inside one shard"},
		{"internal/learn", "what is learnt by content"},
		{"internal/semanticwalk", "semantic requests inside one shard"},
		{"storagenode/semantic", "what a concept means"},
		{"storagenode/embed", "vectors of what is learnt by content"},
		{"internal/pack", "the form of the cached map"},
		{"internal/raftgroup", "replica groups"},
		{"storagenode/engine", "the replica's state machine"},
		{"storagenode/nearest", "vector search"},
		{"storagenode/lock", "wait queues"},
		{"transport", "the server and the masters"},
	},
	"client": {
		{"fsm/event", "ids and errors"},
		{"fsm/shardmap", "routing"},
		{"internal/graphwalk", "paths over shards"},
		{"internal/learn", "what is learnt by content, over shards"},
		{"internal/semanticwalk", "semantic requests over shards"},
		{"transport", "calls"},
	},
	"agent/platform": {},
	"agent/platform/process": {
		{"agent/platform", "the interface it implements"},
	},
	"agent/spool": {{"fsm/event", "events"}, {"internal/datadir", "atomic files"}, {"internal/fault", "fault points"}, {"transport", "emitted events"}},
	"agent": {
		{"agent/spool", "events that are not acknowledged yet"},
		{"agent/platform", "the adapter's interface"},
		{"fsm/event", "ids and events"},
		{"internal/datadir", "identity and atomic files"},
		{"transport", "the masters"},
	},
	"master/disk": {},
	"master/feed": {
		{"internal/fault", "fault points"},
		{"internal/latchfs", "the outbox's latch"},
		{"fsm", "records and the acknowledged cursor"},
		{"fsm/event", "envelopes"},
		{"transport", "the sink's protocol"},
	},
	"master/txn": {
		{"internal/fault", "fault points"},
		{"client", "routed requests to shard leaders"},
		{"fsm", "decisions are state"},
		{"fsm/event", "decision events"},
		{"fsm/shardmap", "the shards of a transaction"},
		{"internal/pack", "the form of operations that a mark is of"},
		{"transport", "prepare and finish"},
	},
	"master/offline": {
		{"fsm", "rebuilding the state"},
		{"fsm/event", "events and errors"},
		{"internal/datadir", "holding the directory"},
		{"internal/raftgroup", "the log and the snapshots"},
		{"master/disk", "the form of the directory"},
		{"master/feed", "the recorded events"},
	},
	"master/gateway": {
		{"client", "routing, fan-out, merge"},
		{"fsm", "the local map"},
		{"fsm/event", "ids and errors"},
		{"fsm/shardmap", "the local map"},
		{"transport", "requests"},
	},
	"master/placement": {
		{"fsm", "the reported state"},
		{"fsm/event", "actions are events"},
	},
	"master": {
		{"internal/fault", "fault points"},
		{"client", "the gateway's client"},
		{"fsm", "the state machine"},
		{"fsm/event", "the vocabulary"},
		{"fsm/shardmap", "bounds and strategies of a new map"},
		{"internal/datadir", "identity and lock"},
		{"internal/raftgroup", "the masters' group"},
		{"internal/txnjson", "transactions over HTTP"},
		{"master/disk", "the form of its data directory"},
		{"master/feed", "outbox and shipper"},
		{"master/gateway", "storage requests"},
		{"master/placement", "the reconciler"},
		{"master/txn", "the coordinator"},
		{"transport", "the server"},
	},
	"cmd/gridmaster": {{"master", "what it runs"}, {"fsm/event", "ids"}, {"internal/raftgroup", "names of log stores"}},
	"cmd/gridagent":  {{"agent/platform/process", "the adapter it chooses"}, {"agent", "what it runs"}, {"fsm/event", "ids"}, {"internal/raftgroup", "names of log stores"}},
	"cmd/gridnode":   {{"storagenode", "what it runs"}, {"storagenode/engine", "a stopped node's entries and rows"}, {"fsm/event", "ids"}, {"internal/raftgroup", "names of log stores"}},
	"cmd/gridctl": {
		{"client", "the SDK is how it talks to the grid"},
		{"cmd/gridctl/dev", "a command of its own"},
		{"fsm", "names of settings"},
		{"fsm/event", "ids, events and errors"},
		{"fsm/shardmap", "locate"},
		{"internal/load", "gridctl bench"},
		{"internal/raftgroup", "entries of a stopped master's log"},
		{"internal/txnjson", "the form of a transaction's file"},
		{"master/offline", "a stopped master's directory"},
		{"transport", "messages"},
	},
	"cmd/gridfault": {
		{"cmd/gridfault/bubble", "children in virtual time"},
		{"cmd/gridfault/episode", "what it runs"},
		{"cmd/gridfault/given", "rig G"},
		{"cmd/gridfault/processes", "rig P"},
		{"cmd/gridfault/report", "what it tells"},
		{"cmd/gridfault/rig", "kinds of faults"},
		{"cmd/gridfault/sim", "rig S"},
		{"cmd/gridfault/workload", "what there is to run"},
		{"internal/fault", "points and mutations"},
		{"internal/history", "the export of a history"},
	},
	"cmd/gridfault/episode": {
		{"cmd/gridfault/rig", "the grid that is hurt"},
		{"cmd/gridfault/workload", "what is run, and its checkers"},
		{"internal/fault", "labels of points"},
		{"internal/history", "what was asked and answered"},
		{"transport", "who leads, for the timeline"},
	},
	"cmd/gridfault/report": {
		{"cmd/gridfault/episode", "the verdict that is told"},
		{"cmd/gridfault/rig", "what processes use"},
		{"internal/trend", "how that went over a soak"},
	},
	"cmd/gridfault/rig": {
		{"fsm/event", "ids"},
		{"transport", "the network over which a grid is reached"},
	},
	"cmd/gridfault/workload": {
		{"client", "half of the clients use the library"},
		{"cmd/gridfault/rig", "the grid that is loaded"},
		{"fsm/event", "ids, settings and kinds of errors"},
		{"internal/history", "what is recorded and judged"},
		{"transport", "requests, and masters asked directly"},
	},
	"cmd/gridfault/processes": {
		{"agent", "the agents' records, of nodes that must run"},
		{"cmd/gridfault/disk", "logs that a power loss tears"},
		{"cmd/gridfault/rig", "the interface it implements"},
		{"fsm/event", "ids and roles"},
		{"fsm/shardmap", "whom a fault of a shard meets"},
		{"internal/fault", "labels of points, for plans"},
		{"internal/latchfs", "how long a disk may take"},
		{"internal/usage", "what the kernel says of a process"},
		{"transport", "asking the grid; the network that clients get"},
	},
	"cmd/gridfault/given": {
		{"cmd/gridfault/rig", "the interface it implements"},
		{"fsm/event", "ids"},
		{"transport", "asking the grid; the network that clients get"},
	},
	"cmd/gridfault/bubble":  {},
	"cmd/gridfault/disk":    {},
	"cmd/gridfault/overlay": {},
	"cmd/gridfault/sim": {
		{"agent", "assembled as gridagent does"},
		{"agent/platform", "the platform on which nodes live in this process"},
		{"cmd/gridfault/disk", "disks that forget what was not synced"},
		{"cmd/gridfault/rig", "the vocabulary it implements"},
		{"fsm", "states that are compared, and waited for"},
		{"fsm/event", "ids and errors"},
		{"internal/fault", "labels of the points at which processes fail"},
		{"master", "assembled as gridmaster does"},
		{"storagenode", "assembled as gridnode does"},
		{"transport", "the network in memory, and the rig's own requests"},
	},
	"cmd/gridctl/dev": {
		{"fsm/event", "ids"},
		{"fsm/shardmap", "readiness"},
		{"internal/datadir", "lock and atomic files"},
		{"transport", "asking the grid"},
		{"agent", "the agents' records of running nodes"},
		{"agent/platform", "the agents' records of running nodes"},
		{"agent/platform/process", "process identity"},
	},
	"internal/e2e": {},
	"internal/sim": {},
}

// forbidden lists imports from outside that a folder must not have, with the reason.
var forbidden = map[string][]string{
	"fsm":          {"net", "os", "time", "math/rand", "math/rand/v2", "crypto/rand", "sync"},
	"fsm/shardmap": {"net", "os", "time", "math/rand", "math/rand/v2", "crypto/rand", "sync"},
	"fsm/event":    {"net", "os", "math/rand", "math/rand/v2", "crypto/rand"},
}

// allowed are exceptions to forbidden: fsm publishes its state with an atomic pointer.
var allowed = []string{"sync/atomic"}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var all []pkg
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportLaw(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		law, known := edges[name]
		if !known {
			t.Errorf("package %s is not in the import law: add it to edges with what it may import, and why", name)
			continue
		}
		for _, imp := range p.Imports {
			checkOutside(t, name, imp)
			target, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if !slices.ContainsFunc(law, func(e struct{ target, reason string }) bool { return e.target == target }) {
				t.Errorf("%s imports %s, which the import law does not allow", name, target)
			}
		}
	}
}

func checkOutside(t *testing.T, name, imp string) {
	t.Helper()
	for _, f := range forbidden[name] {
		if (imp == f || strings.HasPrefix(imp, f+"/")) && !slices.Contains(allowed, imp) {
			t.Errorf("%s imports %s: the state machine reads no clock, no randomness, no file and no network", name, imp)
		}
	}
}

// TestImportLawHasReasons keeps the table honest: sorted out, explained, and without edges that nobody uses.
func TestImportLawHasReasons(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			used[name+" "+strings.TrimPrefix(imp, module)] = true
		}
	}
	var unused []string
	for name, law := range edges {
		for _, e := range law {
			if e.reason == "" {
				t.Errorf("edge %s -> %s has no reason", name, e.target)
			}
			if !used[name+" "+e.target] {
				unused = append(unused, name+" -> "+e.target)
			}
		}
	}
	sort.Strings(unused)
	for _, u := range unused {
		t.Errorf("the import law allows %s, which nothing uses: delete the edge", u)
	}
}
