package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sutra-grid/sutra-grid/bench/report"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// What P9 replays.
const (
	replayEvents = 1_000_000
	replayAgents = 1000
	replayChunk  = 1000 // events read and replayed at a time
)

// replays is P9, as far as it exists: the registry is not rebuilt from event storage yet.
func (b *bench) replays(ctx context.Context) (report.Row, error) {
	row := b.row("P9", "s")
	path := filepath.Join(b.dir, "events")
	defer os.Remove(path)
	b.say("P9: writing %d events", replayEvents)
	want, err := writeHistory(ctx, path, replayEvents)
	if err != nil {
		return row, err
	}
	took, err := b.repeat(ctx, "P9", func(ctx context.Context) (float64, error) {
		began := time.Now()
		got, err := replayFile(ctx, path)
		if err == nil && got != want {
			err = fmt.Errorf("the state of the replay differs from that of the history: %x, want %x", got, want)
		}
		return time.Since(began).Seconds(), err
	})
	if err != nil {
		return row, err
	}
	row.SetAlone(took)
	row.Note = fmt.Sprintf("events of %d agents from a file, in one goroutine, each checked against the chain; the other half of the row, rebuilding from event storage, does not exist yet",
		replayAgents)
	return row, nil
}

// writeHistory applies commands and writes the events they bring, each behind its length. It gives the state's digest.
func writeHistory(ctx context.Context, path string, events int) (digest [32]byte, err error) {
	f, err := os.Create(path)
	if err != nil {
		return digest, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, 1<<20)
	m := fsm.NewMachine()
	now := time.Now().UnixMicro()
	written := 0
	for index := uint64(1); written < events; index++ {
		if ctx.Err() != nil {
			return digest, context.Cause(ctx)
		}
		commands, err := history(index, events-written)
		if err != nil {
			return digest, err
		}
		answers, records, err := m.Apply(fsm.EntryMeta{Index: index, Time: now + int64(index)*1000, Level: 1}, commands)
		if err != nil {
			return digest, err
		}
		for _, a := range answers {
			if a.Err != nil {
				return digest, fmt.Errorf("entry %d: %w", index, a.Err)
			}
		}
		for _, r := range records {
			if err := writeRecord(out, r.Bytes); err != nil {
				return digest, err
			}
		}
		written += len(records)
	}
	return m.View().Digest(), out.Flush()
}

func writeRecord(w io.Writer, record []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(record))), record...))
	return err
}

// history is the commands of an entry: the grid's beginning, its agents, and then what a grid at work says, mostly heartbeats.
func history(index uint64, left int) (commands [][]byte, err error) {
	add := func(actor string, body event.Body) {
		c := event.NewCommand(actor, body)
		var b []byte
		if b, err = event.AppendCommand(nil, c); err == nil {
			commands = append(commands, b)
		}
	}
	switch index {
	case 1:
		add("master-1", event.IncarnationStarted{GridID: "bench", Incarnation: event.Incarnation{N: 1}, Reason: "bench", Level: 1})
	case 2:
		for n := range uint64(replayAgents) {
			add(string(agentName(n)), event.AgentRegistered{AgentID: agentName(n), Hostname: "host", Platform: "linux", AgentEndpoint: "127.0.0.1:1", Version: "bench", StoreID: fmt.Sprintf("%032x", n+1)})
		}
	default:
		for i := range min(uint64(replayChunk), uint64(left)) {
			n := index*replayChunk + i
			if n%8 == 0 {
				add("bench", event.SettingChanged{Key: fmt.Sprintf("bench.%d", n/8%64), Value: fmt.Sprintf("%0200d", n)})
				continue
			}
			add(string(agentName(n%replayAgents)), event.AgentHeartbeat{AgentID: agentName(n % replayAgents), Load: event.Load{CPU: float64(n%100) / 100, MemoryMB: n % 4096, DiskMB: n % 9999}})
		}
	}
	return commands, err
}

// replayFile reads events and replays them.
func replayFile(ctx context.Context, path string) (digest [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return digest, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	m := fsm.NewMachine()
	for ctx.Err() == nil {
		chunk, err := readChunk(in)
		if err != nil {
			return digest, err
		}
		if len(chunk) == 0 {
			return m.View().Digest(), nil
		}
		if err := m.Replay(chunk); err != nil {
			return digest, err
		}
	}
	return digest, context.Cause(ctx)
}

// readChunk reads the next events; none is the end.
func readChunk(in *bufio.Reader) (chunk [][]byte, err error) {
	for range replayChunk {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		record := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, record); err != nil {
			return nil, err
		}
		chunk = append(chunk, record)
	}
	return chunk, nil
}
