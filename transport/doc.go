// Package transport is everything between a message and a socket: framing, the enum codec, limits, the network seam, TLS,
// the first-byte mux, the server skeleton, connections, the pool, and the retry policy of calls to masters.
//
//	message -> {"Variant": fields} -> u32 length + payload -> Conn -> Network -> Mux -> Server -> Handler
//
// Invariants: memory grows with bytes received, never with claimed lengths; every queue, buffer and connection count is
// bounded and every read and write has a deadline; replies on a connection are in the order of its requests; a bad frame
// costs its sender an Error, and no input makes a decoder panic. Framing exists only here, and so does the decision which
// calls to masters are repeated.
//
// It imports fsm/event, fsm/shardmap and internal/pack, and nothing else of ours.
package transport
