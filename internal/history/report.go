package history

import (
	"fmt"
	"slices"
	"strings"
)

// Class names a way in which a history cannot be that of a sequential machine. The names of cycles are Adya's as Elle uses them; with
// "-process" and "-realtime" the cycle needs that a client's transactions, or those of all, follow one another.
type Class string

// The classes.
const (
	G0           Class = "G0"                 // dirty write: a cycle of ww
	G1a          Class = "G1a"                // an aborted transaction's write is read
	G1b          Class = "G1b"                // a transaction's write is read that it wrote over itself, or a part of its writes
	G1c          Class = "G1c"                // a cycle of ww and wr
	GSingle      Class = "G-single"           // a cycle with one rw
	LostUpdate   Class = "lost-update"        // two transactions read the same and both write it
	G2Item       Class = "G2-item"            // a cycle with several rw
	Internal     Class = "internal"           // a transaction does not see what it did itself, or reads differently twice
	Incompatible Class = "incompatible-order" // two reads of one list, none the beginning of the other
	Duplicate    Class = "duplicate-element"  // one append took effect twice
	Garbage      Class = "garbage-read"       // what nobody wrote is read
	NotLinear    Class = "not-linearizable"   // no order of these transactions explains what they said
	StaleRead    Class = "stale-read"         // a read, or a session, is behind what was known before it began
	LostWrite    Class = "lost-write"         // what was acknowledged, or seen, is gone
	Split        Class = "split-version"      // two histories of one register: a version with two values
	BankTotal    Class = "bank-total"         // money was made or lost
	BankNegative Class = "bank-negative"      // an account below zero
	BankSymmetry Class = "bank-symmetry"      // a transfer is with one of its accounts alone, or an account holds what its transfers do not say
	Undecided    Class = "undecided"          // the checker ran out of time: as bad as an anomaly
	LongFork     Class = "long-fork"          // two reads see two writes in opposite orders
	Sequential   Class = "sequential"         // a client's writes are seen in another order than it did them
	DuplicateID  Class = "duplicate-id"       // a counter gave a number twice
	LostElement  Class = "lost-element"       // a set lacks what was acknowledged before it was read
	HalfEdge     Class = "half-edge"          // an association without its inverse
	DanglingEdge Class = "dangling-edge"      // an association to what is not there
	IndexDiffers Class = "index-differs"      // an index says something else than the concepts
	TwoOwners    Class = "two-owners"         // a node of two agents
	FeedGap      Class = "feed-gap"           // the feed lacks an event, or has it twice
	FeedDiffers  Class = "feed-differs"       // two holders of the feed hold different events, or the chain does not hold
	Decision     Class = "decision"           // a transaction's decision events are not what its client was told
	TwoLeaders   Class = "two-leaders"        // in one term
	WatchBroken  Class = "watch"              // a watch was given an event twice, late, or not at all
	StateDiffers Class = "state-differs"      // replicas at the same place hold different things
	Stuck        Class = "stuck"              // what must come to an end at rest has not
	Incomplete   Class = "incomplete"         // the history lacks requests that were sent
	Empty        Class = "empty"              // there was nothing to check: as bad as an anomaly
)

// Anomaly is one proof that a promise was broken, or that nothing was proved.
type Anomaly struct {
	Class Class
	Calls []uint64 // the transactions of the proof
	Text  string   // what they did and why that cannot be, several lines
}

// Report is what a checker has found.
type Report struct {
	Checker   string
	Checked   int // transactions that were judged
	Anomalies []Anomaly
	More      int // anomalies that were found and not kept
}

// maxAnomalies is how many anomalies a report keeps.
const maxAnomalies = 32

// Add notes an anomaly; those beyond the first 32 are only counted.
func (r *Report) Add(class Class, calls []uint64, format string, args ...any) {
	if len(r.Anomalies) >= maxAnomalies {
		r.More++
		return
	}
	r.Anomalies = append(r.Anomalies, Anomaly{class, calls, fmt.Sprintf(format, args...)})
}

// empty notes that a checker had nothing to judge.
func (r *Report) empty() {
	if r.Checked == 0 {
		r.Add(Empty, nil, "%s: there is nothing to check in this history", r.Checker)
	}
}

// Fault is the report of a checker that could not judge.
func Fault(checker string, err error) Report {
	r := Report{Checker: checker}
	r.Add(Undecided, nil, "%v", err)
	return r
}

// Complete checks that a history has as many requests as were sent.
func Complete(l *Log, requests int) Report {
	r := Report{Checker: "complete", Checked: l.requests()}
	if r.Checked != requests {
		r.Add(Incomplete, nil, "%d requests were sent, the history has %d", requests, r.Checked)
	}
	r.empty()
	return r
}

// Valid tells whether nothing was found.
func (r Report) Valid() bool { return len(r.Anomalies) == 0 }

// Has tells whether an anomaly of a class was found.
func (r Report) Has(c Class) bool {
	return slices.ContainsFunc(r.Anomalies, func(a Anomaly) bool { return a.Class == c })
}

// Err is nil when nothing was found, or all of the report as an error.
func (r Report) Err() error {
	if r.Valid() {
		return nil
	}
	return fmt.Errorf("%s", r)
}

// String says what was found, for people.
func (r Report) String() string {
	if r.Valid() {
		return fmt.Sprintf("%s: %d transactions, no anomaly", r.Checker, r.Checked)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d transactions, %d anomalies", r.Checker, r.Checked, len(r.Anomalies)+r.More)
	for _, a := range r.Anomalies {
		fmt.Fprintf(&b, "\n%s: %s", a.Class, strings.ReplaceAll(a.Text, "\n", "\n  "))
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", r.More)
	}
	return b.String()
}
