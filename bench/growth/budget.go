package growth

import "slices"

// The components that have budgets, as Memory names them.
const (
	Master = "master"
	Agent  = "agent"
	Node   = "node"
	Events = "events"
)

// What the budgets are made of, MiB.
const (
	// program is what is resident beside any heap: up to 45 MiB of the program's own file, stacks, what the runtime keeps of itself, and pages
	// that were given back and not taken yet.
	program = 64
	// mastersHeap is promised: P13.
	mastersHeap = 200
	// mastersCollect is how far a master's heap grows beyond what is in use before it is collected: GOGC is 300.
	mastersCollect = 4
	// remembered is a million request ids with their answers in use, at 300 bytes each, beside what a master has anyway.
	remembered = 384
	// watched is a third of 1,000 watchers that take nothing, at the 0.25 MiB that each may hold (master/DESIGN.md).
	watched = 84
	// outboxStore is the store of a master's outbox, which is not on Go's heap: a cache of 8 MiB and memtables of 4 MiB.
	outboxStore = 24
	// agentsHeap: an agent knows its nodes and holds batches of 1 MiB on their way to the masters.
	agentsHeap = 64
	// nodesCache is the default of gridnode --cache-mb, and nodesBeside what gridnode says that it takes beside it, vectors excepted.
	nodesCache  = 256
	nodesBeside = 300
)

// Budget is the memory that a component may take in what some series do, MiB. The heap of a master is Go's; agents and nodes do not tell
// theirs, so it is all of their memory that is no file's: Go's heap, stacks, and the stores' cache and memtables, which are beside Go's heap.
type Budget struct {
	Component string
	While     string   // for the reader
	Series    []string // in which it holds
	Heap, RSS float64
	Why       string
}

// Budgets is every component's.
func Budgets() []Budget {
	all := []string{MastersID, StorageID, ShardsID, WatchersID, AgentsID}
	const full = mastersCollect * remembered
	return []Budget{
		{Master, "10,000 agents send heartbeats; storage and shards grow", []string{AgentsID, StorageID, ShardsID}, mastersHeap, mastersHeap + outboxStore + program,
			"P13 promises the heap; beside it are the outbox's store and the program"},
		{Master, "1,000 watchers", []string{WatchersID}, mastersHeap + watched, mastersHeap + watched + outboxStore + program,
			"the same, and 0.25 MiB for each of the third of the watchers that is this master's, as if all took nothing"},
		{Master, "a million remembered requests", []string{MastersID}, full, full + outboxStore + program,
			"384 MiB in use: 300 bytes for each of a million request ids, and what a master has anyway; the heap grows to four times what is in use before it is collected (GOGC 300)"},
		{Agent, "all series", all, agentsHeap, agentsHeap + program, "the machine's memory is for its nodes; an agent has records of them and a batch of events of 1 MiB"},
		{Node, "all series; no vectors", all, nodesCache + nodesBeside - program, nodesCache + nodesBeside, "gridnode --help: --cache-mb (256) and up to 300 MiB more, the program among it"},
		{Events, "all series", all, nodesCache + nodesBeside - program, nodesCache + nodesBeside, "event storage is a gridnode with the same cache"},
	}
}

// Verdict is a budget beside what was measured.
type Verdict struct {
	Budget
	Measured bool
	Complete bool // all sizes of a usual run are measured in all of its series: what it speaks of was there
	Within   bool // neither is over its budget
	HighHeap Peak
	HighRSS  Peak
}

// Peak is the highest of a measure, and where it was.
type Peak struct {
	MiB    float64
	Series string
	Size   int
}

// raise takes a higher one.
func (p *Peak) raise(mib float64, series string, size int) {
	if mib > p.MiB {
		*p = Peak{mib, series, size}
	}
}

// Judge compares all points with a budget.
func (b Budget) Judge(all []Series) Verdict {
	v := Verdict{Budget: b, Complete: true}
	for _, s := range Subjects() {
		if !slices.Contains(b.Series, s.ID) {
			continue
		}
		points := Of(all, s.ID).Points
		for _, size := range s.Sizes {
			v.Complete = v.Complete && slices.ContainsFunc(points, func(p Point) bool { return p.Size == size })
		}
		for _, p := range points {
			v.weigh(s.ID, p)
		}
	}
	v.Within = v.Measured && v.HighHeap.MiB <= b.Heap && v.HighRSS.MiB <= b.RSS
	return v
}

// weigh takes what a point has of the component.
func (v *Verdict) weigh(series string, p Point) {
	for _, m := range p.Memory {
		if m.Component == v.Component {
			v.Measured = true
			v.HighHeap.raise(m.Heap, series, p.Size)
			v.HighRSS.raise(m.RSS, series, p.Size)
		}
	}
}

// String is the verdict in a word or two.
func (v Verdict) String() string {
	switch {
	case !v.Measured:
		return "not measured yet"
	case !v.Within:
		return "**no**"
	case !v.Complete:
		return "yes, but sizes are missing"
	}
	return "yes"
}
