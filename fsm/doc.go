// Package fsm is the masters' replicated state machine: who is part of the grid, where the shards are, how every
// transaction ended.
//
//	entry -> Machine.Apply = decide(state, command) -> evolve(state, event)… -> answers, feed records, published State
//
// decide looks at a command and either refuses it or names the event it becomes; evolve changes the state by one event.
// What follows from an event (an agent's return, a lost quorum, the cluster's level) is derived right behind it and is an
// event with its cause. Replay uses evolve alone, so a newer rule of decide never changes history (safety S12).
//
// Invariants: Apply is pure, it reads no clock, no randomness, no map order, no file and no network; a refusal leaves the
// history as it was; seq is dense from 1 and time strictly increasing; the state has two parts, history (a function of
// the feed) and local (the rest), each with a digest; equal states are byte-identical snapshots; everything is bounded.
//
// It imports the vocabulary (fsm/event, fsm/shardmap) and the codec; no os, net, time or sync.
package fsm
