package growth

// Column is one figure of a series.
type Column struct {
	Key   string // of Point.Figures
	Title string
	Unit  string
}

// Panel is one picture of a plot: figures of one unit over the sizes.
type Panel struct {
	Title  string
	Keys   []string // columns of the same unit, each a line
	Linear bool     // the scale begins at zero; else it is logarithmic
}

// Subject is what a series is about, whether or not it was ever measured.
type Subject struct {
	ID, Title string
	Axis      string // what Point.Size counts
	About     string // how it is measured
	Sizes     []int  // of a run, ascending
	Large     []int  // beside these, for who has the time
	Columns   []Column
	Panels    []Panel
}

// The ids of the series.
const (
	MastersID  = "masters"
	StorageID  = "storage"
	ShardsID   = "shards"
	WatchersID = "watchers"
	AgentsID   = "agents"
)

// The figures that several series have.
const (
	P50  = "p50_ms"
	P99  = "p99_ms"
	Heap = "heap_mib"
	RSS  = "rss_mib"
	Disk = "disk_mib"
)

// Subjects are the series, in the order of the report.
func Subjects() []Subject {
	return []Subject{masters(), storage(), shards(), watchers(), agents()}
}

func masters() Subject {
	return Subject{
		ID: MastersID, Title: "Masters: remembered requests", Axis: "remembered requests", Sizes: []int{10_000, 100_000, 1_000_000},
		About: "So many settings are committed, 256 in flight, each with a request id that the masters remember for ten minutes (P15). Then one client commits with one request in flight. " +
			"Heap is the fullest master's lowest over three seconds: what is left behind a collection.",
		Columns: []Column{{"fill_per_second", "commits while filling", "1/s"}, {P50, "commit p50", "ms"}, {P99, "commit p99", "ms"}, {Heap, "heap", "MiB"}, {RSS, "RSS", "MiB"}, {Disk, "disk", "MiB"}},
		Panels:  []Panel{{"One client's commit", []string{P50, P99}, false}, {"A master's memory and disk", []string{Heap, RSS, Disk}, false}, {"Commits while filling", []string{"fill_per_second"}, true}},
	}
}

func storage() Subject {
	return Subject{
		ID: StorageID, Title: "Storage: concepts in one shard", Axis: "concepts", Sizes: []int{10_000, 100_000, 1_000_000}, Large: []int{10_000_000},
		About: "One shard with one voter is loaded with concepts of 256 B with two attributes and a tag, 1,000 in a transaction, 8 transactions in flight. When its node has come to rest, one client " +
			"reads random concepts, linearizable, and then writes new ones, with one request in flight; by those the shard is up to a tenth larger than its row says.",
		Columns: []Column{{"load_per_second", "loaded", "concepts/s"}, {"get_p50_ms", "get p50", "ms"}, {"get_p99_ms", "get p99", "ms"}, {"put_p50_ms", "put p50", "ms"}, {"put_p99_ms", "put p99", "ms"},
			{Heap, "heap and cache", "MiB"}, {RSS, "RSS", "MiB"}, {Disk, "disk", "MiB"}},
		Panels: []Panel{{"One client's get and put", []string{"get_p50_ms", "get_p99_ms", "put_p50_ms", "put_p99_ms"}, false}, {"The node's memory and disk", []string{Heap, RSS, Disk}, false},
			{"Loading", []string{"load_per_second"}, true}},
	}
}

func shards() Subject {
	return Subject{
		ID: ShardsID, Title: "Shards on one machine", Axis: "shards", Sizes: []int{1, 4, 16},
		About: "A new grid for each number, with one agent: all shards, with one voter each, are in one node. Puts of new concepts, 256 in flight over 8 connections; then one client reads, one request in flight.",
		Columns: []Column{{"put_per_second", "puts, 256 in flight", "1/s"}, {"put_p99_ms", "their p99", "ms"}, {"get_p50_ms", "get p50", "ms"}, {"get_p99_ms", "get p99", "ms"},
			{Heap, "heap and cache", "MiB"}, {RSS, "RSS", "MiB"}, {Disk, "disk", "MiB"}},
		Panels: []Panel{{"Puts, 256 in flight", []string{"put_per_second"}, true}, {"One client's get", []string{"get_p50_ms", "get_p99_ms"}, false}, {"The node's memory", []string{Heap, RSS}, false}},
	}
}

func watchers() Subject {
	return Subject{
		ID: WatchersID, Title: "Watchers of events", Axis: "watchers", Sizes: []int{1, 100, 1_000},
		About: "So many watches of settings, each with a connection of its own, in turn at the three masters, the first at a follower. One writer commits 20 settings a second, one in flight. The lag of a delivery is " +
			"the time from the writer's answer to the arrival at the watcher, 0 where it came first. All watchers are in the process that measures, whose processor time is part of both.",
		Columns: []Column{{P50, "commit p50", "ms"}, {P99, "commit p99", "ms"}, {"lag_p50_ms", "lag p50", "ms"}, {"lag_p99_ms", "lag p99", "ms"}, {"delivered_per_second", "deliveries", "1/s"},
			{Heap, "heap", "MiB"}, {RSS, "RSS", "MiB"}},
		Panels: []Panel{{"One writer's commit, and the lag", []string{P50, P99, "lag_p50_ms", "lag_p99_ms"}, false}, {"A master's memory", []string{Heap, RSS}, false}},
	}
}

func agents() Subject {
	return Subject{
		ID: AgentsID, Title: "Agents", Axis: "agents", Sizes: []int{100, 1_000, 10_000},
		About:   "So many agents are registered and send a heartbeat every 10 s (P13), which is what the masters' heap budget speaks of. Processor time is that of the busiest master.",
		Columns: []Column{{P50, "heartbeat p50", "ms"}, {P99, "heartbeat p99", "ms"}, {"core_percent", "processor time", "% of a core"}, {Heap, "heap", "MiB"}, {RSS, "RSS", "MiB"}},
		Panels:  []Panel{{"A heartbeat", []string{P50, P99}, false}, {"A master's memory", []string{Heap, RSS}, false}, {"The busiest master's processor time", []string{"core_percent"}, true}},
	}
}

// column is the one of a key; every panel's keys have one.
func (s *Subject) column(key string) Column {
	for _, c := range s.Columns {
		if c.Key == key {
			return c
		}
	}
	return Column{Key: key, Title: key}
}
