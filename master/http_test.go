package master

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// volatile matches what differs from run to run.
var volatile = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"grid_id":"[^"]*"`), `"grid_id":"GRID"`},
	{regexp.MustCompile(`"leader":"master-[1-3]"`), `"leader":"MASTER"`},
	{regexp.MustCompile(`"leader":(true|false),"match_index":[1-9]\d*`), `"leader":BOOL,"match_index":N`},
	{regexp.MustCompile(`"(seq|epoch|last_heartbeat|term|age_ms)":[1-9]\d*`), `"$1":N`},
	{regexp.MustCompile(`master-[1-3]/[0-9a-f]+`), `MASTER`},
}

// TestHTTP holds the shapes of all routes, and that headers state what the bodies do.
func TestHTTP(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.ids()...)
	_, followers := c.leader()
	awaitFounded(c)
	var out bytes.Buffer
	for _, r := range []struct{ method, path, body string }{
		{"GET", "/api/agents", ""},
		{"POST", "/api/agents/register", `{"agent_id":"agent-1","hostname":"h","platform":"linux","max_storage_nodes":2,"version":"1","agent_endpoint":"h:8001","zone":"z","labels":{"k":"v"},"more":1}`},
		{"POST", "/api/agents/register", `{"agent_id":"agent-2","hostname":"h","platform":"linux","max_storage_nodes":0,"version":"1","agent_endpoint":"h:8002"}`},
		{"POST", "/api/agents/heartbeat", `{"agent_id":"agent-1","storage_node_count":1,"timestamp":"2026-10-18T02:20:00Z"}`},
		{"POST", "/api/agents/heartbeat", `{"agent_id":"agent-1","storage_node_count":2,"timestamp":1700000000,"load":{"cpu":0.5,"memory_mb":100,"disk_mb":200}}`},
		{"GET", "/api/agents", ""},
		{"GET", "/api/agents/agent-1", ""},
		{"GET", "/api/agents/agent-9", ""},
		{"GET", "/api/health", ""},
		{"POST", "/api/agents/heartbeat", `{"agent_id":"agent-9","storage_node_count":1}`},
		{"POST", "/api/agents/register", `{"hostname":"h"}`},
		{"POST", "/api/agents/register", `{"agent_id":"node-1"}`},
		{"POST", "/api/agents/register", `{"agent_id":`},
		{"POST", "/api/agents/register", `{"agent_id":"` + strings.Repeat("a", 600) + `"}`},
		{"POST", "/api/agents/register", `{"agent_id":"` + strings.Repeat("a", maxHTTPBody) + `"}`},
		{"GET", "/api/unknown", ""},
		{"DELETE", "/api/agents", ""},
		{"GET", "/api/nodes", ""},
		{"GET", "/api/agents?consistency=leader", ""},
		{"GET", "/api/agents/agent-1?consistency=stale&max_staleness=1m", ""},
		{"GET", "/api/agents?consistency=fresh", ""},
		{"GET", "/api/agents?max_staleness=1m", ""},
		{"GET", "/api/agents?consistency=stale&max_staleness=soon", ""},
		{"GET", "/api/agents?consistency=stale&min_seq=-1", ""},
		{"POST", "/api/health", ""},
		{"GET", "/api/agents/register", ""},
		{"GET", "/livez", ""},
		{"GET", "/readyz", ""},
		{"POST", "/api/txn", `{"ops":[]}`},
		{"POST", "/api/txn", `{"ops":[{"read":{"id":"a"}},{"link_in":{"id":"a","target":"b"}}]}`},
		{"POST", "/api/txn", `{"ops":[{"add":{"id":"a","key":"k"}}]}`},
		{"POST", "/api/txn", `{"ops":[{"read":{"id":"` + strings.Repeat("a", 600) + `"}}]}`},
		{"POST", "/api/txn", `{"ops":[{"read":{"id":"a"}}],"isolation":"none"}`},
		{"GET", "/api/txn", ""},
		{"GET", "/api/concepts/a?consistency=fresh", ""},
	} {
		status, header, body := c.http(followers[0], r.method, r.path, r.body)
		if !strings.HasSuffix(r.path, "z") { // the supervisors' routes promise nothing
			checkContract(t, r.path, header, body)
		}
		if allow := header.Get("Allow"); (status == http.StatusMethodNotAllowed) != (allow != "") {
			t.Errorf("%s %s: %d with Allow %q", r.method, r.path, status, allow)
		}
		text := string(body)
		for _, v := range volatile {
			text = v.re.ReplaceAllString(text, v.with)
		}
		out.WriteString(r.method + " " + r.path + " " + r.body[:min(len(r.body), 60)] + "\n" + http.StatusText(status) + " " + header.Get("X-Grid-Read-Mode") + "\n" + text + "\n")
	}
	const golden = "testdata/http.golden"
	if *rewrite {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("routes answer\n%s\nwant (testdata/http.golden; -rewrite renews it)\n%s", out.Bytes(), want)
	}
	status, _, metrics := c.http(followers[0], "GET", "/metrics", "")
	for _, name := range []string{"grid_raft_term", "grid_raft_leader 0", "grid_seq", "grid_feed_lag_events 0", "grid_agents 2", `grid_proposals_total{result="refused"}`,
		`grid_http_requests_total{class="4xx",route="POST /api/agents/register"} 5`, `grid_txn_in_doubt_total{answer="stopped"} 0`} {
		if status != http.StatusOK || !strings.Contains(string(metrics), name) {
			t.Errorf("/metrics (%d) does not say %s", status, name)
		}
	}
}

// awaitFounded waits until the leader's first events are in, so that the level is settled.
func awaitFounded(c *cluster) {
	c.feed("master-1", 1, until(event.TypeShardMapCreated, 1))
}

// checkContract: the headers say what the body says.
func checkContract(t *testing.T, path string, header http.Header, body []byte) {
	t.Helper()
	if header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: content type %q", path, header.Get("Content-Type"))
	}
	said := decode[struct {
		Seq, Epoch *uint64
		ReadMode   string `json:"read_mode"`
		Age        uint64 `json:"age_ms"`
		Term       uint64
		Error      string
	}](t, body)
	if said.Error != "" {
		return
	}
	if said.Seq == nil || said.Epoch == nil || header.Get("X-Grid-Seq") != decimal(*said.Seq) || header.Get("X-Grid-Epoch") != decimal(*said.Epoch) || header.Get("X-Grid-Read-Mode") != said.ReadMode {
		t.Errorf("%s: headers %v, body %s", path, header, body)
	}
	if stale := said.ReadMode == transport.Stale; stale != (header.Get("X-Grid-Age-Ms") != "") || stale && header.Get("X-Grid-Age-Ms") != decimal(said.Age) {
		t.Errorf("%s: headers %v do not say how old %s is", path, header, body)
	}
	if led := said.ReadMode != "" && said.ReadMode != transport.Stale; led != (said.Term > 0) || led && header.Get("X-Grid-Term") != decimal(said.Term) {
		t.Errorf("%s: headers %v do not say the term of %s", path, header, body)
	}
}
