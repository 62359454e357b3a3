// Package fault is the labelled points at which a grid can be made to fail, each used in one place of the source, and the mutations
// by which its promises can be broken: two tables.
//
//	raftgroup, feed, txn, spool, … -- Err(label), Point(label) --> nothing at all, or what is armed for the label
//	raftgroup, fsm, engine, …      -- Broken(mutation) ----------> false, or whether it is live
//
// Without the build tag `faults` these are empty functions that the compiler removes, tables and names included: a released
// program has nothing that could be armed or broken. With the tag a process obeys the plan in the environment variable GRID_FAULT
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
// GRID_MUTATION names the mutations that are live, separated by commas; Break makes them so in a process that holds a whole grid. What a
// mutation breaks is said on standard error, "fault: mutation <name> is live: …", when its place is first come by.
//
// Invariants: no point changes anything unless it is armed, and no mutation unless it is named; what a plan does not say exactly is refused, and ends the process.
// The package imports nothing of ours.
package fault
