// Package sim runs whole grids of masters in virtual time, breaks them, and checks what they promised. It consists of tests.
//
//	plan(seed) --steps--> world: machines, network, disks --commands--> load --ledger--> check <--feeds, states-- every replica
//
// Invariants: a run's steps are a function of its seed alone; everything a run makes is made inside its bubble and has ended
// when the bubble does; a checker that saw nothing fails.
package sim
