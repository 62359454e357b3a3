package fsm

import (
	"fmt"
	"iter"
)

// Object is one object of a state, for tools that show states or compare them.
type Object struct {
	Section string // agents, nodes, …; head and mark hold one object each
	Rank    int    // sections come in this order
	Key     string // in its section
	History bool   // it is covered by Digest; otherwise by LocalDigest
	Value   any    // pointer to a struct whose fields' names are their wire tags; must not be changed
	Bytes   int    // in a snapshot
}

// Objects walks all objects of a published state in the order of snapshots: by section, then by key.
func (s *State) Objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		_ = yield(single(secHead, "head", true, &s.head)) &&
			walk("agents", true, &s.agents, yield) && walk("nodes", true, &s.nodes, yield) &&
			walk("shards", true, &s.shards, yield) && walk("txns", true, &s.txns, yield) &&
			walk("masters", true, &s.masters, yield) && walk("settings", true, &s.settings, yield) &&
			walk("association_types", true, &s.types, yield) && walk("sinks", true, &s.sinks, yield) &&
			yield(single(secMark, "mark", false, &s.mark)) &&
			walk("pulses", false, &s.pulses, yield) && walk("requests", false, &s.requests, yield) &&
			walk("emitters", false, &s.emitters, yield) && walk("cursors", false, &s.cursors, yield) &&
			walk("backlog", false, &s.backlog, yield) &&
			(s.head.Level < CheckLevel || yield(single(secCheck, "check", true, &s.check))) &&
			s.head.Level >= MembersLevel && walk("members", true, &s.members, yield)
	}
}

// Copy is a state of its own, which may be given to Machine.Restore. Not for concurrent use on one state.
func (s *State) Copy() *State { return s.copy() }

func single(sec section, name string, history bool, v any) Object {
	return Object{Section: name, Rank: int(sec), History: history, Value: v, Bytes: len(appendObject(nil, v))}
}

func walk[K, V any](name string, history bool, t *table[K, V], yield func(Object) bool) bool {
	more := true
	t.tree.Scan(func(r row[K, V]) bool {
		o := single(t.section, name, history, &r.cell.value)
		o.Key = fmt.Sprint(r.key)
		more = yield(o)
		return more
	})
	return more
}
