package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/internal/pack"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

func eventAt(id, timestamp string) transport.Op {
	op := concept(id)
	op.Metadata = &transport.Metadata{Attributes: map[string]string{"timestamp": timestamp}}
	return op
}

// eventEngine is the engine of event storage.
func eventEngine(t *testing.T) *Engine {
	t.Helper()
	o := testOptions(t, vfs.NewMem())
	o.ShardID = EventsShard
	e := mustOpen(t, o)
	t.Cleanup(func() { mustClose(t, e) })
	return e
}

func createdOf(t *testing.T, e *Engine, id string) int64 {
	t.Helper()
	c, found, err := e.Concept(id)
	if err != nil || !found {
		t.Fatalf("concept %q: %v, %v", id, found, err)
	}
	return c.Created
}

func TestEventsAreCreatedWhenTheyHappened(t *testing.T) {
	const text = "2024-05-06T07:08:09.123456Z"
	at := time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC).UnixMicro()
	e := eventEngine(t)
	write(t, e, eventAt("event", text), eventAt("odd", "yesterday"), concept("entity"))
	applied := testTime + 1_000_000
	for id, want := range map[string]int64{"event": at, "odd": applied, "entity": applied} {
		if got := createdOf(t, e, id); got != want {
			t.Errorf("%s was created %d, want %d", id, got, want)
		}
	}
	write(t, e, concept("event")) // learned again without a timestamp: its creation stays
	if got := createdOf(t, e, "event"); got != at {
		t.Errorf("learned again it was created %d, want %d", got, at)
	}
	plain := newEngine(t)
	write(t, plain, eventAt("event", text))
	if got := createdOf(t, plain, "event"); got != applied {
		t.Errorf("outside of event storage an attribute moved the creation to %d", got)
	}
	// An entry of level 1 has the rules of level 1.
	old := eventEngine(t)
	en := entryAt(t, 1, writeOf(1, testTime, eventAt("event", text)))
	en.Level = 1
	old.Apply([]raftgroup.Entry{en})
	if got := createdOf(t, old, "event"); got != applied {
		t.Errorf("by an entry of level 1 it was created %d, want %d", got, applied)
	}
}

// TestOldEventStorageIsUpgraded: the events of a store of format 1 have the time at which they were stored.
func TestOldEventStorageIsUpgraded(t *testing.T) {
	o := testOptions(t, vfs.NewMem())
	o.ShardID = EventsShard
	storeOf(t, o, func(set func(key, value []byte)) {
		m, err := encodeMeta(meta{Format: 1, ShardID: EventsShard, Applied: 1, Concepts: 1})
		must(t, err)
		set([]byte{tableMeta}, m)
		row, err := pack.AppendArray(nil, &conceptRecord{Version: 3, Created: testTime, Modified: testTime, Content: "c",
			Attributes: map[string]string{"timestamp": "1969-12-31T23:59:59Z"}, Tags: []string{"t"}})
		must(t, err)
		set(conceptKey(nil, "event"), row)
	})
	e := mustOpen(t, o)
	defer func() { mustClose(t, e) }()
	c, _, err := e.Concept("event")
	must(t, err)
	if c.Created != -1_000_000 || c.Modified != testTime || c.Version != 3 || c.Content != "c" {
		t.Errorf("upgraded it is %+v", c)
	}
}

func TestTimesOrderAsTheirKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		if got := bytes.Compare(appendTime(nil, a), appendTime(nil, b)); (got < 0) != (a < b) || (got == 0) != (a == b) {
			t.Fatalf("the keys of %d and %d compare as %d", a, b, got)
		}
		back, id, ok := splitTimeKey(timeKey(nil, a, "id"))
		if !ok || back != a || string(id) != "id" {
			t.Fatalf("%d read back is %d, %q, %v", a, back, id, ok)
		}
	})
}
