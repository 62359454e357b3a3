package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The Sutra storage protocol. A struct's name is its variant on the wire, its fields in order are the positional form;
// "optional" fields may be missing. Limits: content 10 MiB, id 512 bytes of UTF-8 without NUL, batch 1,000, see limits.go.
type (
	// LearnConcept creates a concept or replaces its fields; its associations stay.
	LearnConcept struct {
		ConceptID  string    `wire:"concept_id"`
		Content    string    `wire:"content"`
		Embedding  []float32 `wire:"embedding"` // empty: none
		Strength   float32   `wire:"strength"`
		Confidence float32   `wire:"confidence"`
		Metadata   *Metadata `wire:"metadata,optional"`
	}
	// Metadata is a concept's attributes (at most 100) and tags (at most 100).
	Metadata struct {
		Attributes map[string]string `wire:"attributes,optional"`
		Tags       []string          `wire:"tags,optional"`
	}
	// LearnConceptOk carries the shard's commit sequence; on the wire a one-element array.
	LearnConceptOk struct {
		Sequence uint64 `wire:"sequence"`
	}
	// LearnAssociation creates an association or updates its confidence; its identity is (source, target, type).
	LearnAssociation struct {
		SourceID   string  `wire:"source_id"`
		TargetID   string  `wire:"target_id"`
		AssocType  uint32  `wire:"assoc_type"`
		Confidence float32 `wire:"confidence"`
	}
	// LearnAssociationOk is a one-element array on the wire.
	LearnAssociationOk struct {
		Sequence uint64 `wire:"sequence"`
	}
	// QueryConcept reads one concept.
	QueryConcept struct {
		ConceptID string `wire:"concept_id"`
	}
	// QueryConceptOk has all keys also when not found.
	QueryConceptOk struct {
		Found      bool      `wire:"found"`
		ConceptID  string    `wire:"concept_id"`
		Content    string    `wire:"content"`
		Strength   float32   `wire:"strength"`
		Confidence float32   `wire:"confidence"`
		Metadata   *Metadata `wire:"metadata"`
	}
	// GetNeighbors asks for the distinct targets of outgoing associations, in commit order of the first.
	GetNeighbors struct {
		ConceptID string `wire:"concept_id"`
	}
	// GetNeighborsOk answers GetNeighbors.
	GetNeighborsOk struct {
		NeighborIDs []string `wire:"neighbor_ids"`
	}
	// FindPath asks for a shortest path along outgoing associations; depth is at most 20 edges.
	FindPath struct {
		StartID  string `wire:"start_id"`
		EndID    string `wire:"end_id"`
		MaxDepth uint32 `wire:"max_depth"`
	}
	// FindPathOk's path includes both ends; an unknown end is found: false.
	FindPathOk struct {
		Found bool     `wire:"found"`
		Path  []string `wire:"path"`
	}
	// GetAssociation answers with the lowest type between the two.
	GetAssociation struct {
		SourceID string `wire:"source_id"`
		TargetID string `wire:"target_id"`
	}
	// GetAssociationOk answers GetAssociation.
	GetAssociationOk struct {
		Found      bool    `wire:"found"`
		SourceID   string  `wire:"source_id"`
		TargetID   string  `wire:"target_id"`
		AssocType  uint32  `wire:"assoc_type"`
		Confidence float32 `wire:"confidence"`
	}
	// GetAllConceptIds lists every id, in byte order per shard.
	GetAllConceptIds struct{}
	// GetAllConceptIdsOk answers GetAllConceptIds.
	GetAllConceptIdsOk struct {
		ConceptIDs []string `wire:"concept_ids"`
	}
	// GetStats asks for counters.
	GetStats struct{}
	// StatsOk counts each association once, at its source. The last four are aliases.
	StatsOk struct {
		Concepts        uint64 `wire:"concepts"`
		Edges           uint64 `wire:"edges"`
		Vectors         uint64 `wire:"vectors"`
		Written         uint64 `wire:"written"`
		Dropped         uint64 `wire:"dropped"`
		Pending         uint64 `wire:"pending"`
		Reconciliations uint64 `wire:"reconciliations"`
		UptimeSeconds   uint64 `wire:"uptime_seconds"`
		TotalConcepts   uint64 `wire:"total_concepts"`
		TotalEdges      uint64 `wire:"total_edges"`
		Writes          uint64 `wire:"writes"`
		Drops           uint64 `wire:"drops"`
	}
	// Flush makes everything acknowledged durable in the engine as well.
	Flush struct{}
	// FlushOk is a bare string on the wire.
	FlushOk struct{}
	// HealthCheck asks whether the server can serve.
	HealthCheck struct{}
	// HealthCheckOk answers HealthCheck; status is "ok", "starting" or what is wrong.
	HealthCheckOk struct {
		Healthy       bool   `wire:"healthy"`
		Status        string `wire:"status"`
		UptimeSeconds uint64 `wire:"uptime_seconds"`
	}
)

// Extensions a plain Sutra client never sends.
type (
	// Hello is optional and first; it switches the connection to extended errors (event.Error whole instead of the message
	// alone) and, with the feature "concurrent", lets the server work on pipelined requests concurrently (replies stay in order).
	Hello struct {
		Version  uint32   `wire:"version"`
		Token    string   `wire:"token,optional"`
		Features []string `wire:"features,optional"`
	}
	// HelloOk lists the features the server knows ("concurrent", "batch", "routed") and its clock.
	HelloOk struct {
		Version    uint32         `wire:"version"`
		Features   []string       `wire:"features"`
		ShardEpoch event.Position `wire:"shard_epoch"`
		GridID     string         `wire:"grid_id"`
		TimeMicros int64          `wire:"time_micros"`
	}
	// Batch holds up to 1,000 plain requests; on a storage node the writes among them are one group commit.
	// Replies come in order, an Error in place of the reply of a request that failed. Not atomic.
	Batch struct {
		Requests []Any `wire:"requests"`
	}
	// BatchOk has one reply per request.
	BatchOk struct {
		Replies []Any `wire:"replies"`
	}
	// Neighbors pages through the associations of a concept, in commit order.
	Neighbors struct {
		ConceptID string  `wire:"concept_id"`
		Direction string  `wire:"direction"` // out, in or both
		Type      *uint32 `wire:"type,optional"`
		Limit     uint32  `wire:"limit,optional"` // 0: 1,000; at most 10,000
		Cursor    string  `wire:"cursor,optional"`
	}
	// NeighborsOk: an empty cursor is the end.
	NeighborsOk struct {
		Items  []Neighbor `wire:"items"`
		Cursor string     `wire:"cursor"`
	}
	// Neighbor is one association seen from a concept.
	Neighbor struct {
		ID         string  `wire:"id"`
		Type       uint32  `wire:"type"`
		Confidence float32 `wire:"confidence"`
		Direction  string  `wire:"direction"`
	}
	// Expand answers, for a whole frontier of ids, the distinct neighbours of each; ids the shard does not hold give an empty list.
	// Direction is out or in; at most 10,000 ids.
	Expand struct {
		ConceptIDs []string `wire:"concept_ids"`
		Direction  string   `wire:"direction"`
	}
	// ExpandOk: Known tells per id whether the concept exists.
	ExpandOk struct {
		Neighbors [][]string `wire:"neighbors"`
		Known     []bool     `wire:"known"`
	}

	// Routed addresses one request to one shard: what the client library and the gateway send to a storage node.
	Routed struct {
		ShardID       event.ShardID   `wire:"shard_id"`
		Epoch         event.Position  `wire:"epoch"`       // the map the sender used
		RequestID     event.RequestID `wire:"request_id"`  // zero for reads
		Issued        int64           `wire:"issued"`      // unix µs, set once with the request id
		Consistency   string          `wire:"consistency"` // "" or "linearizable": the group's leader; "stale": any replica
		TimeoutMillis uint32          `wire:"timeout_millis"`
		Request       Any             `wire:"request"`
	}
	// RoutedOk states the contract of the reply it wraps.
	RoutedOk struct {
		ShardSeq uint64         `wire:"shard_seq"` // log index of the write, or read index of the read
		Epoch    event.Position `wire:"epoch"`     // the map the node knows
		ReadMode string         `wire:"read_mode"`
		Reply    Any            `wire:"reply"`
	}
)
