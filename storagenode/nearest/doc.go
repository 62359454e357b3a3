// Package nearest answers VectorSearch at one replica: it keeps a vector index in step with the replica's engine, in a
// goroutine behind Apply, and joins to what the index answers what it does not have yet.
//
//	engine ── record of changed vectors ── Keeper.run ── index ──┐
//	   │                                       └── file          ├── Search ── results
//	   └── vectors at one point in time ─────────────────────────┘
//
// Invariants:
//   - A search answers for the vectors as they are at one applied index, which is not lower than the engine's when the search
//     began: every vector written up to there can be found, none that was removed up to there is. Scores are of that point in time.
//   - Apply never waits for the index: the queue between them is the engine's record, on disk.
//   - The file is never ahead of the store, and the record reaches back to the file: so what a crash leaves can be brought up to
//     date. Where it does not, as after a snapshot was installed, the index is compared with all vectors.
//   - Until there is an index, and while it is too far behind, vectors are compared one by one: slower, and exact.
//
// It must not import the node or a client.
package nearest
