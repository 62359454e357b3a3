// Package history records what clients of a grid asked and were told, and checks whether one machine that does one transaction after
// the other could have told them the same.
//
//	clients --Invoke, OK, Fail, Unknown--> Recorder --JSON lines--> Read --> []Txn --+-> Linear  against the sequential model (Porcupine)
//	                                                                                 +-> Lists   cycles of dependencies (after Elle)
//	                                                                                 +-> Bank    totals
//
// A transaction is the operations of transport.Txn; a single write or read is one of one operation. A concept with its neighbours is a
// list, learn_association appends to it, read_neighbors reads it in commit order; a concept with its attributes is a map of registers.
//
// Invariants: what has no known end may have taken effect at any time after its beginning, or never; what failed surely has not, and
// what was acknowledged surely has, between its beginning and its end; moments that are equal are concurrent. A checker that was
// shown nothing, and one that ran out of time, say so and never that all is well.
//
// The package imports nothing of the grid but its messages: it judges by what was said, not by how it came about.
package history
