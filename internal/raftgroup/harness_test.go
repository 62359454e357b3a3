package raftgroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const testGroup = "shard-0"

func testGrid() HostConfig {
	return HostConfig{GridID: "grid", Incarnation: event.Incarnation{N: 1, Random: [8]byte{1, 2, 3}}, Log: discard()}
}

func discard() *slog.Logger {
	if os.Getenv("RAFTGROUP_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// journal is an FSM that remembers every command; the answer is its place.
type journal struct {
	mu       sync.Mutex
	lines    []string
	applied  uint64
	restores int
	slow     time.Duration // of Restore
	refuse   string        // a command that stops it
	durable  bool          // Applied survives, as with an engine on disk
	keeps    bool          // its snapshots stay with it (KeptSnapshot)
	broken   error         // of Restore, before it or, if late, behind it
	late     bool
	gate     chan struct{} // a snapshot is not written before this is closed; nil: at once
}

func (j *journal) Apply(entries []Entry) [][]any {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([][]any, len(entries))
	for i, e := range entries {
		if e.Index <= j.applied {
			panic(fmt.Sprintf("entry %d is applied again at %d", e.Index, j.applied))
		}
		for _, c := range e.Commands {
			if j.refuse != "" && string(c) == j.refuse {
				return nil
			}
			j.lines = append(j.lines, string(c))
			out[i] = append(out[i], len(j.lines))
		}
		j.applied = e.Index
	}
	return out
}

type journalState struct {
	Lines   []string
	Applied uint64
	Pad     string
}

type journalSnapshot struct {
	journalState
	gate chan struct{}
}

func (s journalSnapshot) Write(w io.Writer) error {
	if s.gate != nil {
		<-s.gate
	}
	return json.NewEncoder(w).Encode(s.journalState)
}

func (s journalSnapshot) Release() {}

func (j *journal) Snapshot() (Snapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	state := journalState{Lines: append([]string(nil), j.lines...), Applied: j.applied, Pad: strings.Repeat("x", 3*chunkBytes)}
	if j.keeps {
		return keptJournal{journalSnapshot{state, j.gate}}, nil
	}
	return journalSnapshot{state, j.gate}, nil
}

// keptJournal is a snapshot of a journal that keeps its state itself.
type keptJournal struct{ journalSnapshot }

func (keptJournal) Keep(w io.Writer) error {
	_, err := io.WriteString(w, "a record")
	return err
}

func (j *journal) Restore(r io.Reader) error {
	var s journalState
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	if j.broken != nil && !j.late {
		return j.broken
	}
	time.Sleep(j.slow)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines, j.applied, j.restores = s.Lines, s.Applied, j.restores+1
	return j.broken
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// wire is a network whose links can be cut, and whose answers can be held back.
type wire struct {
	transport.Network
	mu    sync.Mutex
	cut   map[string]bool          // guarded by mu; by "from>to", owners
	held  map[string]chan struct{} // guarded by mu; closed when released
	conns map[string][]net.Conn    // guarded by mu
	owner map[string]string        // guarded by mu; address -> owner

	dialed map[string]int // guarded by mu; how often each link was; nil: nobody asks
}

func newWire(n transport.Network) *wire {
	return &wire{Network: n, cut: map[string]bool{}, held: map[string]chan struct{}{}, conns: map[string][]net.Conn{}, owner: map[string]string{}}
}

// end is the wire as one owner sees it.
type end struct {
	*wire
	from string
}

func (e end) Dial(ctx context.Context, addr string) (net.Conn, error) {
	e.mu.Lock()
	link := e.from + ">" + e.owner[addr]
	cut := e.cut[link]
	if e.dialed != nil {
		e.dialed[link]++
	}
	e.mu.Unlock()
	if cut {
		return nil, errors.New("cut")
	}
	c, err := e.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.conns[link] = append(e.conns[link], c)
	e.mu.Unlock()
	return &heldConn{Conn: c, wire: e.wire, link: link}, nil
}

// heldConn delivers nothing while its link is held.
type heldConn struct {
	net.Conn
	wire *wire
	link string
}

func (c *heldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.mu.Lock()
	held := c.wire.held[c.link]
	c.wire.mu.Unlock()
	if held != nil {
		<-held
	}
	return n, err
}

// isolate cuts an owner off from all others, or lets it in again.
func (w *wire) isolate(owner string, off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.owner {
		w.cutLocked(owner+">"+other, off)
		w.cutLocked(other+">"+owner, off)
	}
}

func (w *wire) cutLocked(link string, off bool) {
	w.cut[link] = off
	for _, c := range w.conns[link] {
		c.Close()
	}
	delete(w.conns, link)
}

// hold keeps everything that others say from an owner, until release: what they answer is on its way, and they reach it
// with nothing new.
func (w *wire) hold(owner string) (release func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{})
	for _, other := range w.owner {
		w.held[owner+">"+other] = ch
		w.cutLocked(other+">"+owner, true)
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, other := range w.owner {
			delete(w.held, owner+">"+other)
			w.cutLocked(other+">"+owner, false)
		}
		close(ch)
	})
}

// cluster is a group whose replicas all run in the test.
type cluster struct {
	t     *testing.T
	wire  *wire
	nodes []*node
	led   chan *node // who began to lead
}

type node struct {
	c     *cluster
	owner string
	id    event.ReplicaID
	dir   string
	addr  string
	fsm   *journal
	host  *Host
	group *Group
	fatal chan error
	tune  func(*Config)
	serve chan error
	open  chan struct{} // closed when group is set
}

func lan() Timeouts { return LANMasters() }

// newCluster makes and starts n voters.
func newCluster(t *testing.T, network transport.Network, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, wire: newWire(network), led: make(chan *node, 1000)}
	root := t.TempDir()
	var ids []event.ReplicaID
	for i := range n {
		owner := fmt.Sprintf("node-%d", i+1)
		ids = append(ids, event.NewReplicaID(owner, fmt.Sprintf("%032x", i+1)))
		c.nodes = append(c.nodes, &node{c: c, owner: owner, id: ids[i], dir: filepath.Join(root, owner, "raft"), fsm: &journal{}})
	}
	for _, n := range c.nodes {
		if err := os.MkdirAll(filepath.Dir(n.dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Create(n.dir, CreateConfig{GroupID: testGroup, LocalID: n.id, Voters: ids, SegmentBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// voters is the ids of all replicas of the cluster.
func (n *node) voters() (ids []event.ReplicaID) {
	for _, o := range n.c.nodes {
		ids = append(ids, o.id)
	}
	return ids
}

func (c *cluster) start() *cluster {
	c.t.Helper()
	for _, n := range c.nodes {
		n.start()
	}
	return c
}

// address is where a replica id listens; a replaced replica keeps its owner's.
func (c *cluster) address(id event.ReplicaID) (string, error) {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	for addr, owner := range c.wire.owner {
		if owner == id.Owner() {
			return addr, nil
		}
	}
	return "", fmt.Errorf("%s has no address", id)
}

func (n *node) listen() {
	n.c.t.Helper()
	addr := n.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := n.c.wire.Listen(addr)
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.c.wire.mu.Lock()
	n.c.wire.owner[n.addr] = n.owner
	n.c.wire.mu.Unlock()
	n.host = NewHost(l, testGrid())
	n.serve = make(chan error, 1)
	host, serve := n.host, n.serve
	go func() { serve <- host.Serve(context.Background()) }()
}

func (n *node) config() Config {
	n.fatal, n.open = make(chan error, 10), make(chan struct{})
	fatal := n.fatal
	cfg := Config{
		GroupID: testGroup, LocalID: n.id, Dir: n.dir, Host: n.host, Network: end{n.c.wire, n.owner}, Addresses: n.c.address,
		Timeouts: lan(), FSM: n.fsm, SnapshotThreshold: 1 << 20, TrailingLogs: 64, SegmentBytes: 1 << 20,
		Fatal: func(err error) { fatal <- err }, Log: discard().With("node", n.owner),
		Lead: func(ctx context.Context, _ uint64) {
			n.c.led <- n
			<-ctx.Done()
		},
	}
	if n.fsm.durable {
		cfg.Applied = func() uint64 { return n.fsm.applied }
	}
	if n.tune != nil {
		n.tune(&cfg)
	}
	return cfg
}

func (n *node) start() {
	n.c.t.Helper()
	if err := n.tryStart(); err != nil {
		n.c.t.Fatal(err)
	}
}

func (n *node) tryStart() error {
	if n.fsm == nil || !n.fsm.durable {
		keep := journal{}
		if n.fsm != nil {
			keep.slow, keep.refuse = n.fsm.slow, n.fsm.refuse
		}
		n.fsm = &keep
	}
	n.listen()
	g, err := Open(n.config())
	if err != nil {
		n.closeHost()
		return err
	}
	n.group = g
	close(n.open)
	return nil
}

func (n *node) closeHost() {
	n.c.t.Helper()
	if err := n.host.Close(); err != nil {
		n.c.t.Error(err)
	}
	if err := <-n.serve; err != nil {
		n.c.t.Error(err)
	}
}

// stop closes without handing over, as a crash does.
func (n *node) stop() {
	n.c.t.Helper()
	if n.group == nil {
		return
	}
	if err := n.group.Close(); err != nil {
		n.c.t.Error(err)
	}
	n.closeHost()
	n.group = nil
}

func (c *cluster) stop() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.stop()
	}
}

// leader waits for a replica that leads, other than those.
func (c *cluster) leader(not ...*node) *node {
	c.t.Helper()
	for {
		for _, n := range c.nodes {
			if n.group != nil && n.group.IsLeader() && !contains(not, n) {
				return n
			}
		}
		select {
		case <-c.led:
		case <-time.After(30 * time.Second):
			c.t.Fatal("no leader within 30 s")
		}
	}
}

func contains(ns []*node, n *node) bool {
	for _, x := range ns {
		if x == n {
			return true
		}
	}
	return false
}

func (c *cluster) others(n *node) []*node {
	var out []*node
	for _, x := range c.nodes {
		if x != n {
			out = append(out, x)
		}
	}
	return out
}

// put proposes lines until each is acknowledged, at whoever leads; a line may be there twice after an unknown outcome, so
// tests that count use must.
func (n *node) must(lines ...string) Result {
	n.c.t.Helper()
	var r Result
	for _, l := range lines {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		var err error
		r, err = n.group.Propose(ctx, []byte(l))
		cancel()
		if err != nil {
			n.c.t.Fatalf("propose %q at %s: %v", l, n.owner, err)
		}
	}
	return r
}

func (n *node) wait(index uint64) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.group.Wait(ctx, index); err != nil {
		n.c.t.Fatalf("%s: %v", n.owner, err)
	}
}

func (n *node) wantLines(want ...string) {
	n.c.t.Helper()
	if got := n.fsm.all(); strings.Join(got, " ") != strings.Join(want, " ") {
		n.c.t.Fatalf("%s holds %q, want %q", n.owner, got, want)
	}
}

func kindOf(err error) event.Kind {
	var e *event.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
