package fsm

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// commit is the n-th transaction's commit.
func commit(n uint64, begin event.Position) []byte {
	var id event.TxnID
	binary.BigEndian.PutUint64(id[:], (n+1)*0x9e3779b97f4a7c15)
	c := event.NewCommand("master-1", event.TxnCommitted{TxnID: id, Attempt: n + 1, Begin: begin, Issued: epoch + int64(n), Shards: []event.ShardID{"shard-0", "shard-1"}, OpCount: 2, Coordinator: "master-1"})
	c.RequestID, c.Issued = id, epoch+int64(n)
	return encoded(c)
}

func encoded(c *event.Command) []byte {
	b, err := event.AppendCommand(nil, c)
	if err != nil {
		panic(err)
	}
	return b
}

// TestOpenTransactionsAreBounded: above the bound new ones are refused, in a way that a retry can succeed.
func TestOpenTransactionsAreBounded(t *testing.T) {
	r := formed(t, 1, 2)
	begin := r.m.View().Position()
	r.m.work.limits.openTxns = 10
	apply := func(commands ...[]byte) []Answer {
		r.index++
		answers, _, err := r.m.Apply(EntryMeta{Index: r.index, Time: r.now, Level: 1}, commands)
		if err != nil {
			t.Fatal(err)
		}
		return answers
	}
	for n := range uint64(10) {
		wantKind(t, "one of ten", apply(commit(n, begin))[0], "")
	}
	wantKind(t, "the last one again", apply(commit(9, begin))[0], "")
	busy := apply(commit(10, begin))[0]
	wantKind(t, "one more", busy, event.KindBusy)
	if busy.Err != nil && busy.Err.RetryAfterMillis == 0 {
		t.Error("busy, and no word when to retry")
	}
	var first event.TxnID
	binary.BigEndian.PutUint64(first[:], 0x9e3779b97f4a7c15)
	apply(encoded(event.NewCommand("master-1", event.TxnCompleted{TxnIDs: []event.TxnID{first}})))
	wantKind(t, "one more, again", apply(commit(10, begin))[0], "")
	if err := check(r.m.View()); err == nil {
		t.Error("check does not see that the limits are not those of the settings")
	}
}

// applied are the events a working grid sees again and again, each as its n-th command.
var applied = []struct {
	name    string
	command func(n uint64, begin event.Position) []byte
}{
	{"commit", commit},
	{"abort", func(n uint64, begin event.Position) []byte {
		var id event.TxnID
		binary.BigEndian.PutUint64(id[:], (n+1)*0x9e3779b97f4a7c15)
		c := event.NewCommand("master-1", event.TxnAborted{TxnID: id, Attempt: n + 1, Begin: begin, Shards: []event.ShardID{"shard-0", "shard-1"}, Reason: "locked"})
		c.RequestID, c.Issued = id, epoch+int64(n)
		return encoded(c)
	}},
	{"heartbeat", func(uint64, event.Position) []byte {
		return encoded(event.NewCommand("agent-1", event.AgentHeartbeat{AgentID: "agent-1", StorageNodeCount: 1, Nodes: []event.NodeReport{{NodeID: "node-1", Status: "running", PID: 7, Endpoint: "10.0.0.1:50051"}}}))
	}},
	{"register", func(n uint64, _ event.Position) []byte {
		return encoded(event.NewCommand("agent-1", event.AgentRegistered{AgentID: "agent-1", MaxStorageNodes: 2, StoreID: "store-agent-1", Version: fmt.Sprint(n)}))
	}},
	{"leader", func(n uint64, _ event.Position) []byte {
		return encoded(event.NewCommand("node-1", event.ShardLeaderChanged{ShardID: "shard-0", NodeID: nodeID(n%3 + 1), Term: n + 2}))
	}},
	{"telemetry", func(uint64, event.Position) []byte {
		return encoded(event.NewCommand("node-1", event.QueryPerformance{NodeID: "node-1", QueryType: event.QueryGet, LatencyMS: 1}))
	}},
	{"setting", func(n uint64, _ event.Position) []byte {
		c := event.NewCommand("user", event.SettingChanged{Key: "key", Value: fmt.Sprintf("%0200d", n)})
		binary.BigEndian.PutUint64(c.RequestID[:], n+1)
		c.Issued = epoch + int64(n)
		return encoded(c)
	}},
}

func BenchmarkApply(b *testing.B) {
	for _, kind := range applied {
		for _, size := range []int{1, 256} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, size), func(b *testing.B) {
				r := formed(b, 3, 2)
				raise(r)
				begin := r.m.View().Position()
				b.ReportAllocs()
				done := 0
				for b.Loop() {
					b.StopTimer()
					r.index++
					commands := make([][]byte, size)
					for i := range commands {
						commands[i] = kind.command(uint64(done+i), begin)
					}
					b.StartTimer()
					answers, _, err := r.m.Apply(EntryMeta{Index: r.index, Time: epoch + int64(done), Level: SupportedLevel}, commands)
					if err != nil || answers[0].Err != nil && answers[0].Err.Kind != event.KindBusy {
						b.Fatal(err, answers[0].Err)
					}
					done += size
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/command")
			})
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	r := formed(b, 3, 2)
	begin := r.m.View().Position()
	for n := uint64(0); n < 50_000; n += 1000 {
		r.index++
		var commands [][]byte
		for i := range uint64(1000) {
			commands = append(commands, commit(n+i, begin))
		}
		if _, _, err := r.m.Apply(EntryMeta{Index: r.index, Time: r.now, Level: 1}, commands); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := r.m.View().WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
