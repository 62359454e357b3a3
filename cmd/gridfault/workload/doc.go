// Package workload is what clients do to a grid while it is hurt, and what must hold of what they were told.
//
//	Setup --> Run (clients: ask, be told, record) --> the grid is healed --> Settle (last reads) --> history --ReadLog--> Check
//
// A workload reaches a grid as users do, over a transport.Network and with the client library, half of its clients past the library
// through one master after the other; it tells time by package time and takes its randomness from a seed, so it runs in virtual time
// as well. What it works on bears a name of its own, so runs on one grid do not meet.
//
// Invariants: every request that leaves a client is in the history before it is sent; what became of it is what history.Of says of the
// error, no more; a client that does not know goes on as somebody else. A history judges itself: what a checker must know stands in
// its notes. A history with nothing in it, or with less than was sent, is not valid.
//
// The package must not import masters or storage nodes: it knows what they say, not how.
package workload
