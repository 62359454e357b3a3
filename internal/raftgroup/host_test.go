package raftgroup

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A connection reaches exactly the replica it is meant for; anything else is told why not.
func TestHostRefusesWhatIsNotMeantForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := transport.NewMemory()
		c := newCluster(t, network, 1).start()
		defer c.stop()
		n := c.nodes[0]
		good := hello{GridID: "grid", Incarnation: testGrid().Incarnation, Group: testGroup, From: "node-9.99", To: n.id}
		for name, tc := range map[string]struct {
			change func(*hello)
			want   string // "": taken; nobody asks whether the sender is a member
		}{
			"meant for it":        {func(*hello) {}, ""},
			"another grid":        {func(h *hello) { h.GridID = "other" }, "this is grid grid, not other"},
			"another incarnation": {func(h *hello) { h.Incarnation.N++ }, "incarnation 1-"},
			"another beginning":   {func(h *hello) { h.Incarnation.Random[0]++ }, "incarnation 1-"},
			"another group":       {func(h *hello) { h.Group = "shard-7" }, "no replica of shard-7"},
			"another replica":     {func(h *hello) { h.To = event.NewReplicaID(n.owner, strings.Repeat("f", 32)) }, "is " + string(n.id)},
			"nobody":              {func(h *hello) { h.From = "" }, "who it is"},
		} {
			h := good
			tc.change(&h)
			conn := dial(t, network, n.addr)
			if err := writeHello(conn, h); err != nil {
				t.Fatal(err)
			}
			err := readAnswer(conn)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("%s: refused with %v", name, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%s: answered %v, want %q", name, err, tc.want)
			case tc.want != "":
				if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%s: the connection stays: %v", name, err)
				}
			}
			conn.Close()
		}
	})
}

func dial(t *testing.T, network transport.Network, addr string) net.Conn {
	t.Helper()
	conn, err := network.Dial(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Garbage and silence cost a connection, for at most the handshake's time; more than the limit at once are turned away.
func TestHostSurvivesBadGuests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := transport.NewMemory()
		c := newCluster(t, network, 1).start()
		defer c.stop()
		n := c.leader()
		bad := dial(t, network, n.addr)
		if _, err := bad.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := bad.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("garbage is answered with %v", err)
		}
		var silent []net.Conn
		for range maxHandshakes {
			silent = append(silent, dial(t, network, n.addr))
			synctest.Wait()
		}
		late := dial(t, network, n.addr)
		if _, err := late.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("one too many: %v", err)
		}
		n.must("a")
		begun := time.Now()
		for _, conn := range silent {
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("a silent guest got %v", err)
			}
		}
		if took := time.Since(begun); took > handshakeTimeout {
			t.Fatalf("silence was borne for %v", took)
		}
	})
}

func TestTwoReplicasOfAGroupInOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, transport.NewMemory(), 2).start()
		defer c.stop()
		a, b := c.nodes[0], c.nodes[1]
		b.stop()
		cfg := b.config()
		cfg.Host = a.host
		if g, err := Open(cfg); err == nil || !strings.Contains(err.Error(), string(a.id)) {
			if err == nil {
				g.Close()
			}
			t.Fatalf("got %v", err)
		}
		b.start() // the failed Open left nothing locked
		c.leader().must("x")
	})
}

func TestCreate(t *testing.T) {
	dir := t.TempDir() + "/raft"
	c := CreateConfig{GroupID: "g", LocalID: "a.1", Voters: []event.ReplicaID{"a.1", "b.2"}}
	for name, bad := range map[string]CreateConfig{
		"not a voter":  {GroupID: "g", LocalID: "c.3", Voters: c.Voters},
		"listed twice": {GroupID: "g", LocalID: "a.1", Voters: []event.ReplicaID{"a.1", "b.2", "b.2"}},
		"no group":     {LocalID: "a.1", Voters: c.Voters},
	} {
		if err := Create(dir, bad); err == nil {
			t.Errorf("%s: created", name)
		}
	}
	if err := Create(dir, c); err != nil {
		t.Fatal(err)
	}
	if err := mustExist(dir, WAL); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, c); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Fatalf("created twice: %v", err)
	}
}
