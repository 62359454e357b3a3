// Package load makes load on a running grid and measures what its users wait for.
//
//	Plan -> Run -> workers -> Op (one request) -> recorder -> Report
//	                           ▲
//	        Workload: put get txn search feed import, over Target's connections
//
// A worker has one request under way at a time, so Plan.InFlight bounds what is under way. In a closed loop (Rate 0) a worker sends its
// next request when the last one is answered: that measures throughput. In an open loop requests are due by the clock; one that found
// every worker busy is timed from when it was due, so a server that stalls is charged for all that it kept waiting (no coordinated
// omission).
//
// Invariants: what a seed draws (ids, sizes, vectors, which worker asks what) is the same in every run with that seed; request ids are
// not, or a second run would get the first one's answers. Only requests of the measured time count. Workloads use client and transport
// as any program would. The package imports neither master nor storagenode, so what it measures is behind the wire.
package load
