// Package event is the grid's vocabulary: what can happen, how it is written down, and what it is called.
//
//	Command (asked) -> state machine -> Envelope{seq, time, cause, actor, body, chain} -> log, feed, JSON
//
// Ids, error kinds, event types with their bodies, the canonical MessagePack form of commands and envelopes, the hash
// chain over envelopes, and the flat JSON form that event storage keeps.
//
// Invariants: a type's code, name and the order of its fields never change, fields are only added at the end; equal
// envelopes are equal bytes; JSON and back gives the same bytes; no decoder panics or allocates beyond a constant factor
// of its input.
//
// It imports the codec (internal/pack) and nothing else of ours, no network and no file package, and reads no clock.
package event
