// Package embed turns texts into vectors: by a built-in recipe that needs nothing else, or by a service that speaks the
// OpenAI embeddings protocol.
//
//	texts ── Hashing ─────────────────────────────────► vectors
//	texts ── Endpoint ── cache ── queue ── POST /v1/embeddings
//
// Invariants:
//   - A text's vector depends on the text and the embedder's configuration alone, never on what else is asked meanwhile.
//   - The built-in recipe never changes: vectors made years apart are compared with each other. Golden vectors hold it.
//   - What a service answers is checked before it is used; an answer that is wrong in any part is refused whole.
//   - Memory is bounded: cache, queue, request and response each have a limit.
//
// It knows nothing of shards, engines and masters.
package embed
