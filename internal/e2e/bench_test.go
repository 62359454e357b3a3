package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// benchOutcome is the JSON of `gridctl bench`.
type benchOutcome struct {
	Workload  string  `json:"workload"`
	Seed      uint64  `json:"seed"`
	Done      uint64  `json:"done"`
	Failed    uint64  `json:"failed"`
	PerSecond float64 `json:"per_second"`
	Records   float64 `json:"records_per_second"`
	Weight    float64 `json:"records_per_request"`
	Latency   struct {
		P50, P99, P999, Max float64
	} `json:"latency_ms"`
	Lag *uint64 `json:"feed_lag_events"`
}

// checkBench runs every workload of `gridctl bench` on a grid for a moment: each is answered, none of its requests fails, it says its seed
// and, on standard error, how it goes; what it wrote is there.
func checkBench(t *testing.T, g *grid) {
	for _, name := range []string{"put", "get", "txn", "search", "feed", "import"} {
		args := []string{"-o", "json", "bench", name, "--duration", "700ms", "--warmup", "100ms", "--clients", "4", "--connections", "2", "--keys", "50", "--batch", "20", "--seed", "77"}
		if name == "get" {
			args = append(args, "--rate", "50")
		}
		stdout, stderr, status := g.ctl(args...)
		var o benchOutcome
		if err := json.Unmarshal([]byte(stdout), &o); err != nil || status != 0 {
			t.Errorf("bench %s: exit %d, %v: %s %s", name, status, err, stdout, stderr)
			continue
		}
		if o.Workload != name || o.Done == 0 || o.Failed != 0 || o.Seed != 77 || o.Latency.P50 <= 0 || o.Latency.Max < o.Latency.P99 || o.Latency.P99 < o.Latency.P50 ||
			(o.Lag != nil) != (name == "feed") || !strings.HasPrefix(stderr, "seed 77\n") {
			t.Errorf("bench %s: %s %s", name, stdout, stderr)
		}
		if name == "get" && o.Done != 35 {
			t.Errorf("bench get at 50/s for 0.7 s made %d requests, want 35", o.Done)
		}
		if name == "import" && (o.Weight != 20 || o.Records < 19*o.PerSecond) {
			t.Errorf("bench import: %s", stdout)
		}
	}
	if stdout, stderr, status := g.ctl("get", "bench-4d-000000000"); status != 0 || !strings.Contains(stdout, "bench-4d-000000000") {
		t.Errorf("what bench wrote is not there: exit %d: %s %s", status, stdout, stderr)
	}
	for _, wrong := range [][]string{{"bench", "put", "--clients", "0"}, {"bench", "put", "--rate", "-1"}, {"bench", "get", "--keys", "-1"}, {"bench", "nothing"}, {"bench", "put", "more"}} {
		if _, stderr, status := g.ctl(wrong...); status != 2 {
			t.Errorf("%v: exit %d, want 2: %s", wrong, status, stderr)
		}
	}
}
