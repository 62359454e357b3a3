package engine

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

func benchEngine(b *testing.B) *Engine {
	b.Helper()
	e, err := Open(filepath.Join(b.TempDir(), "engine"), Options{
		ShardID: testShard, Dimension: 768, Log: slog.New(slog.DiscardHandler), Fatal: func(err error) { b.Error(err) }, fs: vfs.Default,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { mustClose(b, e) })
	return e
}

// benchApply applies b.N single-op writes, in entries of 256 as 256 writers in flight make them.
func benchApply(b *testing.B, e *Engine, op func(i int) transport.Op) {
	b.Helper()
	const group = 256
	var entries []raftgroup.Entry
	index := e.Applied()
	for done := 0; done < b.N; done += group {
		index++
		en := raftgroup.Entry{Index: index, Level: 1, Time: testTime + int64(index)}
		for i := done; i < min(done+group, b.N); i++ {
			c := Command{Kind: Write, Issued: testTime + int64(index), Write: &transport.Write{Ops: []transport.Op{op(i)}}}
			binary.BigEndian.PutUint64(c.RequestID[:], index)
			binary.BigEndian.PutUint64(c.RequestID[8:], uint64(i))
			en.Commands = append(en.Commands, encode(b, c))
		}
		entries = append(entries, en)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range entries {
		for _, a := range e.Apply(entries[i : i+1])[0] {
			if answer := a.(Answer); answer.Err != nil {
				b.Fatal(answer.Err)
			}
		}
	}
}

func name(i int) string { return fmt.Sprintf("concept-%09d", uint32(i)*2654435761) }

// BenchmarkLearnConcept is one write of the 40,000 per second that are asked of a shard with one voter.
func BenchmarkLearnConcept(b *testing.B) {
	benchApply(b, benchEngine(b), func(i int) transport.Op { return concept(name(i)) })
}

func BenchmarkLearnConceptWithVector(b *testing.B) {
	vector := make([]float32, 768)
	benchApply(b, benchEngine(b), func(i int) transport.Op {
		c := concept(name(i))
		c.Embedding = vector
		return c
	})
}

func BenchmarkLearnAssociation(b *testing.B) {
	e := benchEngine(b)
	const n = 4096
	for i := 0; i < n; i += 512 {
		var ops []transport.Op
		for j := i; j < i+512; j++ {
			ops = append(ops, concept(name(j)))
		}
		write(b, e, ops...)
	}
	benchApply(b, e, func(i int) transport.Op { return association(name(i%n), name(i*7%n), uint32(i/n)) })
}

func BenchmarkConcept(b *testing.B) {
	e := benchEngine(b)
	const n = 512
	var ops []transport.Op
	for i := range n {
		ops = append(ops, concept(name(i)))
	}
	write(b, e, ops...)
	if err := e.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, found, err := e.Concept(name(i % n)); err != nil || !found {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkTargets(b *testing.B) {
	e := benchEngine(b)
	write(b, e, concept("hub"), concept("a"))
	for i := range 20 {
		write(b, e, concept(name(i)), association("hub", name(i), 0))
	}
	b.ReportAllocs()
	for b.Loop() {
		if ids, err := e.Targets("hub"); err != nil || len(ids) != 20 {
			b.Fatal(ids, err)
		}
	}
}
