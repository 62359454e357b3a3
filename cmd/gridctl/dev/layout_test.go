package dev

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func config(t *testing.T) Config {
	t.Helper()
	c, err := DefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaultPorts(t *testing.T) {
	l := newLayout(config(t), "/d")
	want := "master-1=127.0.0.1:7000/127.0.0.1:7001/127.0.0.1:7002,master-2=127.0.0.1:7010/127.0.0.1:7011/127.0.0.1:7012," +
		"master-3=127.0.0.1:7020/127.0.0.1:7021/127.0.0.1:7022"
	if got := l.peers(); got != want {
		t.Errorf("peers\n%s, want\n%s", got, want)
	}
	for j, a := range l.agents {
		if a.address != fmt.Sprint("127.0.0.1:", 8001+j) || a.nodePorts != fmt.Sprintf("%d-50251", 50053+j) {
			t.Errorf("%+v", a)
		}
	}
	if l.events != "127.0.0.1:50052" {
		t.Errorf("events at %s", l.events)
	}
}

// All ports are those of the operations page, distinct, and within the 400.
func TestBasePort(t *testing.T) {
	c := config(t)
	c.BasePort, c.Masters, c.Agents = 14000, 5, maxAgents
	l := newLayout(c, "/d")
	used := map[int]string{}
	take := func(who, addr string, want int) {
		t.Helper()
		h, p, err := net.SplitHostPort(addr)
		port, _ := strconv.Atoi(p)
		if err != nil || h != "127.0.0.1" || port != want || used[port] != "" || port >= c.BasePort+portSpan {
			t.Errorf("%s at %s (taken by %q), want port %d", who, addr, used[port], want)
		}
		used[port] = who
	}
	for i, m := range l.masters {
		take(m.id, m.raft, 14000+10*i)
		take(m.id, m.http, 14001+10*i)
		take(m.id, m.grid, 14002+10*i)
	}
	for j, a := range l.agents {
		take(a.id, a.address, 14101+j)
		if want := fmt.Sprintf("%d-14399", 14201+j); a.nodePorts != want {
			t.Errorf("%s gives its nodes %s, want %s", a.id, a.nodePorts, want)
		}
	}
	take("events", l.events, 14200)
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"default", func(*Config) {}, ""},
		{"one of everything", func(c *Config) { c.Masters, c.Agents, c.Shards, c.Replicas = 1, 1, 1, 1 }, ""},
		{"two masters", func(c *Config) { c.Masters = 2 }, "--masters 2"},
		{"no agents", func(c *Config) { c.Agents, c.Replicas = 0, 1 }, "--agents 0"},
		{"too many agents", func(c *Config) { c.Agents = 91 }, "--agents 91"},
		{"too many shards", func(c *Config) { c.Shards = 1024 }, "--shards 1024"},
		{"more replicas than agents", func(c *Config) { c.Replicas = 5 }, "3 agents can hold"},
		{"privileged ports", func(c *Config) { c.BasePort = 80 }, "--base-port 80"},
		{"ports that end above 65535", func(c *Config) { c.BasePort = 65137 }, "--base-port 65137"},
		{"the last base port", func(c *Config) { c.BasePort = 65136 }, ""},
		{"no data", func(c *Config) { c.Data = "" }, "--data"},
	} {
		cfg := config(t)
		c.change(&cfg)
		err := cfg.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestCheckPorts(t *testing.T) {
	l := newLayout(config(t), "/d")
	holder, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	l.masters, l.agents, l.events = nil, []agentPlace{{id: "agent-7", address: holder.Addr().String()}}, "127.0.0.1:0"
	err = l.checkPorts()
	if err == nil || !strings.Contains(err.Error(), "agent-7 cannot listen on "+holder.Addr().String()+": address already in use") {
		t.Errorf("%v", err)
	}
	l.agents = nil
	if err := l.checkPorts(); err != nil {
		t.Errorf("free ports: %v", err)
	}
}

func TestRestartPause(t *testing.T) {
	const ms = time.Millisecond
	last := time.Duration(0)
	for i, c := range []struct{ lived, want time.Duration }{
		{time.Hour, 0}, {999 * ms, 250 * ms}, {0, 500 * ms}, {0, time.Second}, {0, 2 * time.Second}, {0, 4 * time.Second}, {0, 5 * time.Second},
		{0, 5 * time.Second}, {time.Second, 0}, {0, 250 * ms},
	} {
		if last = restartPause(c.lived, last); last != c.want {
			t.Errorf("life %d of %v: pause %v, want %v", i, c.lived, last, c.want)
		}
	}
}

// The time for an orderly stop: what each group may take, and killing what does not end, stay below the promised 20 s.
func TestStopFitsItsPromise(t *testing.T) {
	total := agentPatience + nodePatience + masterPatience + eventsPatience + 4*killPatience
	if total >= 20*time.Second {
		t.Errorf("a stop may take %v", total)
	}
	node, err := time.ParseDuration(nodeStopPatience)
	if err != nil || node+time.Second >= agentPatience {
		t.Errorf("an agent waits %v for its node, and gets %v", node, agentPatience)
	}
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "supervisor.json")
	open := func() *record {
		t.Helper()
		r, err := openRecord(path)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	mine, other := shape{3, 3, 4, 3}, shape{3, 4, 4, 3}
	r := open()
	if err := r.claim(mine); err != nil {
		t.Fatal(err)
	}
	if err := r.started("master-1", "1/2/b"); err != nil {
		t.Fatal(err)
	}
	r = open()
	if ref, ok := r.child("master-1"); !ok || ref != "1/2/b" {
		t.Errorf("child %q %v", ref, ok)
	}
	if err := r.claim(mine); err != nil {
		t.Errorf("the same shape again: %v", err)
	}
	if err := r.claim(other); err == nil || !strings.Contains(err.Error(), "--agents 3") {
		t.Errorf("another shape: %v", err)
	}
	if err := r.forget(); err != nil {
		t.Fatal(err)
	}
	if err := open().claim(other); err != nil {
		t.Errorf("another shape for a new grid: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRecord(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken record: %v", err)
	}
}

func TestWorksOn(t *testing.T) {
	for _, c := range []struct {
		line []string
		want bool
	}{
		{[]string{"gridnode", "--data", "/d/events"}, true},
		{[]string{"gridnode", "--data", "/d/events/deeper"}, true},
		{[]string{"gridnode", "--data", "/d/events2"}, false},
		{[]string{"gridnode", "--data", "/d"}, false},
		{[]string{"vi", "x/d/events"}, false},
		{nil, false},
	} {
		if got := worksOn(c.line, "/d/events"); got != c.want {
			t.Errorf("%q: %v", c.line, got)
		}
	}
}

func TestWhole(t *testing.T) {
	good := func() *transport.ClusterStatus {
		s := &transport.ClusterStatus{Status: "ok", Leader: "master-1", HealthyAgents: 3}
		for i := range 4 {
			s.Shards = append(s.Shards, transport.ShardHealth{ShardID: event.ShardID(fmt.Sprint("shard-", i)), State: shardmap.Formed, Leader: "node-1", Live: 3, Want: 3})
		}
		return s
	}
	for _, c := range []struct {
		name   string
		change func(*transport.ClusterStatus)
		want   string
	}{
		{"all there", func(*transport.ClusterStatus) {}, ""},
		{"no leader", func(s *transport.ClusterStatus) { s.Leader = "" }, "no leader"},
		{"starting", func(s *transport.ClusterStatus) { s.Status = "starting" }, "no leader"},
		{"an agent is missing", func(s *transport.ClusterStatus) { s.HealthyAgents = 2 }, "2 of 3 agents"},
		{"a shard is missing", func(s *transport.ClusterStatus) { s.Shards = s.Shards[1:] }, "3 of 4 shards"},
		{"a shard is forming", func(s *transport.ClusterStatus) { s.Shards[2].State = shardmap.Forming }, "shard-2 is forming"},
		{"a shard has no leader", func(s *transport.ClusterStatus) { s.Shards[3].Leader = "" }, "shard-3"},
		{"a replica is down", func(s *transport.ClusterStatus) { s.Shards[0].Live = 2 }, "2 of 3 replicas"},
	} {
		s := good()
		c.change(s)
		err := (&observer{cfg: config(t)}).whole(s)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestContextFile(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := config(t)
	mine, err := newContextFile(newLayout(c, "/d"))
	if err == nil {
		err = mine.write()
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "sutra-grid", "context.yaml")
	want := "masters:\n    - 127.0.0.1:7002\n    - 127.0.0.1:7012\n    - 127.0.0.1:7022\nevents: 127.0.0.1:50052\n"
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}

	c.BasePort = 14000
	later, err := newContextFile(newLayout(c, "/e"))
	if err == nil {
		err = later.write()
	}
	if err == nil {
		err = mine.remove()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file of a later grid was removed by an earlier one: %v", err)
	}
	for range 2 {
		if err := later.remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after its grid ended: %v", err)
	}
}

// The form of dev.json, which programs read.
func TestDevFile(t *testing.T) {
	c := config(t)
	c.Masters, c.Agents, c.BasePort = 1, 1, 14000
	b := newBoard(newLayout(c, t.TempDir()))
	b.masters, b.agents, b.fleet = []*child{{}}, []*child{{}}, &fleet{}
	text, err := json.Marshal(b.content())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"masters":[{"id":"master-1","pid":0,"raft":"127.0.0.1:14000","http":"127.0.0.1:14001","grid":"127.0.0.1:14002","console":""}],` +
		`"agents":[{"id":"agent-1","pid":0,"address":"127.0.0.1:14101"}],"nodes":[],"events":"127.0.0.1:14200","ready":false}`
	if string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	b.shards.Store(&shardmap.Map{Shards: []shardmap.Shard{
		{ID: "shard-0", Replicas: []shardmap.Replica{{NodeID: "node-1"}, {NodeID: "node-2"}}}, {ID: "shard-1", Replicas: []shardmap.Replica{{NodeID: "node-2"}}},
	}})
	if got := fmt.Sprint(b.shardsOf("node-1"), b.shardsOf("node-2"), b.shardsOf("node-3")); got != "[shard-0] [shard-0 shard-1] []" {
		t.Errorf("shards %s", got)
	}
}
