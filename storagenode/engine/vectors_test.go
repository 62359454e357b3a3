package engine

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sutra-grid/sutra-grid/transport"
	"pgregory.net/rapid"
)

// openVectors fixes the vectors for the length of a test's step.
func openVectors(t failer, e *Engine) (*Vectors, func()) {
	t.Helper()
	v, err := e.Vectors()
	if err != nil {
		t.Fatalf("vectors: %v", err)
	}
	return v, func() {
		if err := v.Close(); err != nil {
			t.Fatalf("close vectors: %v", err)
		}
	}
}

// changedSince reads the record to its end, few at a time.
func changedSince(t failer, v *Vectors, after uint64) (ids []string, known bool) {
	t.Helper()
	for {
		some, through, known, err := v.Changed(after, 2)
		if err != nil {
			t.Fatalf("changed since %d: %v", after, err)
		}
		if !known {
			return nil, false
		}
		if ids = append(ids, some...); through == v.Applied() {
			return ids, true
		}
		if through <= after || len(some) < 2 {
			t.Fatalf("changes behind %d end at %d with %q, applied is %d", after, through, some, v.Applied())
		}
		after = through
	}
}

// checkVectors: from every index that is not forgotten on, the record has whatever differs now.
func (w *world) checkVectors(t *rapid.T) {
	v, done := openVectors(t, w.e)
	defer done()
	now := map[string]string{}
	err := v.Each(func(id string, vector []float32) bool { now[id] = fmt.Sprint(vector); return true })
	if err != nil || v.Applied() != w.e.Applied() {
		t.Fatalf("vectors at %d: %v; applied %d", v.Applied(), err, w.e.Applied())
	}
	want := map[string]string{}
	for id, c := range w.m.concepts {
		if len(c.op.Embedding) > 0 {
			want[id] = fmt.Sprint(c.op.Embedding)
		}
	}
	if !maps.Equal(now, want) {
		t.Fatalf("vectors %v, the model has %v", now, want)
	}
	w.vectors[v.Applied()] = now
	for index, then := range w.vectors {
		ids, known := changedSince(t, v, index)
		if !known {
			if index >= w.forgotten {
				t.Fatalf("changes since %d are not known; those up to %d are forgotten", index, w.forgotten)
			}
			continue
		}
		for _, id := range modelIDs {
			if now[id] != then[id] && !slices.Contains(ids, id) {
				t.Fatalf("%q was %q at %d and is %q; the record has %q", id, then[id], index, now[id], ids)
			}
		}
	}
	if n := w.e.VectorsChanged(); n > v.Applied() {
		t.Fatalf("vectors changed at %d, applied is %d", n, v.Applied())
	} else if ids, known := changedSince(t, v, n); len(ids) > 0 || !known && n >= w.forgotten {
		t.Fatalf("vectors changed at %d, and the record has %q behind it (%v)", n, ids, known)
	}
}

func (w *world) forget(t *rapid.T) {
	through := uint64(rapid.IntRange(0, int(w.e.Applied())).Draw(t, "through"))
	if err := w.e.ForgetVectorChanges(through); err != nil {
		t.Fatalf("forget: %v", err)
	}
	w.forgotten = max(w.forgotten, through)
}

// TestVersionWithoutARecord: where a version that keeps no record has applied, the record begins anew.
func TestVersionWithoutARecord(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, testOptions(t, fs))
	fillWith(t, e, "v", 3)
	known := func(after uint64) bool {
		v, done := openVectors(t, e)
		defer done()
		_, known := changedSince(t, v, after)
		return known
	}
	if !known(0) {
		t.Error("a new store's changes are not known")
	}
	must(t, e.ForgetVectorChanges(1))
	if known(0) || !known(1) {
		t.Errorf("after forgetting 1: since 0 known %v, since 1 %v", known(0), known(1))
	}
	applied := e.Applied()
	for name, strip := range map[string]func(db *pebble.DB) error{
		"a version that has no record": func(db *pebble.DB) error {
			return db.DeleteRange([]byte{tableVectorChange}, []byte{tableOut}, pebble.NoSync)
		},
		"and later applies more": func(db *pebble.DB) error {
			return db.Set([]byte{tableChangesThrough}, indexValue(applied-1), pebble.NoSync)
		},
	} {
		s, err := e.use()
		must(t, err)
		must(t, strip(s.db))
		s.release()
		mustClose(t, e)
		e = mustOpen(t, testOptions(t, fs))
		if known(applied-1) || !known(applied) {
			t.Errorf("%s: since %d known %v, since %d %v", name, applied-1, known(applied-1), applied, known(applied))
		}
	}
	mustClose(t, e)
}

// TestSelected: what the indexes list is what the rows say.
func TestSelected(t *testing.T) {
	e := newEngine(t)
	var ops []transport.Op
	for i := range 30 {
		op := concept(fmt.Sprintf("c%02d", i))
		op.Metadata = &transport.Metadata{Attributes: map[string]string{"third": fmt.Sprint(i % 3)}, Tags: []string{fmt.Sprint("fifth", i%5)}}
		ops = append(ops, op)
	}
	do(t, e, writeOf(1, issuedBy(e), ops...))
	v, done := openVectors(t, e)
	defer done()
	for _, s := range []Selection{{}, {Tags: []string{"fifth2"}}, {Attributes: map[string]string{"third": "1"}},
		{Attributes: map[string]string{"third": "1"}, Tags: []string{"fifth4"}}, {Tags: []string{"fifth1", "fifth2"}}} {
		var want []string
		for i := range 30 {
			id := fmt.Sprintf("c%02d", i)
			yes, err := v.Selects(&s, id)
			must(t, err)
			inTag := !slices.ContainsFunc(s.Tags, func(tag string) bool { return tag != fmt.Sprint("fifth", i%5) })
			if third, asked := s.Attributes["third"]; yes != (inTag && (!asked || third == fmt.Sprint(i%3))) {
				t.Errorf("%+v selects %s: %v", s, id, yes)
			}
			if yes {
				want = append(want, id)
			}
		}
		got, all, err := v.Selected(&s, 100)
		if slices.Sort(got); err != nil || !all || !slices.Equal(got, want) {
			t.Errorf("%+v selects %q (all %v, %v), want %q", s, got, all, err, want)
		}
		if got, all, err := v.Selected(&s, len(want)+1); err != nil || !all || len(got) != len(want) {
			t.Errorf("%+v with a limit above: %q, %v, %v", s, got, all, err)
		}
		if got, all, err := v.Selected(&s, 1); len(want) > 1 && (err != nil || all || len(got) != 1) {
			t.Errorf("%+v with a limit of 1: %q, %v, %v", s, got, all, err)
		}
	}
	if yes, err := v.Selects(&Selection{}, "nobody"); err != nil || yes {
		t.Errorf("a concept that is not there is selected: %v, %v", yes, err)
	}
}
