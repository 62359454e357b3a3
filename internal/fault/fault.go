// Package fault is the labelled points at which a grid can be made to fail: one table of labels, each used in one place of
// the source.
//
//	raftgroup, feed, txn, spool, … -- Err(label), Point(label) --> nothing at all, or what is armed for the label
//
// Without the build tag `faults` both are empty functions that the compiler removes, table and names included: a released
// program has nothing that could be armed. With the tag a process obeys the plan in the environment variable GRID_FAULT
// or, if GRID_FAULT_FILE names a file, what that file says at the moment of each pass. A plan is a list, separated by commas or
// lines:
//
//	raft.log.store:error=ENOSPC@10    at the tenth pass; 10+: from then on; without @: at every pass
//	raft.log.store:delay=500ms        also ns, us, s
//	outbox.append:hang@3              until the plan in the file changes
//	txn.decide.before:crash%5         with 5 % probability, drawn from GRID_FAULT_SEED
//
// crash is what kill -9 does. An error is one of the operating system's, by name. Passes are counted from when the plan was
// read. What happens is said on standard error, "fault: <label>, pass <n>: <action>", before it happens.
//
// Invariants: no point changes anything unless it is armed; what a plan does not say exactly is refused, and ends the process.
// The package imports nothing of ours.
package fault
