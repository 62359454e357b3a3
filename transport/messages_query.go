package transport

// Queries over all concepts, extensions of the storage protocol. They are answered in pages of at most 10,000 items and
// about 1 MiB, so a page may have fewer items than were asked for, even none, and still a cursor: only an empty cursor is the
// end. Every page is a point in time of its own; a concept that is there all the time is in exactly one of them. The limit may
// change between pages, nothing else.
//
// Times are unix seconds with a fraction, of µs resolution.
type (
	// QueryByMetadata finds the concepts that have all of the attributes and tags, in the order of their creation, then of
	// their ids.
	QueryByMetadata struct {
		Attributes map[string]string `wire:"attributes,optional"` // at most 100
		Tags       []string          `wire:"tags,optional"`       // at most 100
		From       *float64          `wire:"from,optional"`       // created at or after
		To         *float64          `wire:"to,optional"`         // created before
		Order      string            `wire:"order,optional"`      // "asc" (or "") or "desc"
		Limit      uint32            `wire:"limit,optional"`      // 0: 1,000; at most 10,000
		Cursor     string            `wire:"cursor,optional"`
	}
	// QueryByMetadataOk: an empty cursor is the end.
	QueryByMetadataOk struct {
		Items  []ConceptItem `wire:"items"`
		Cursor string        `wire:"cursor"`
	}
	// Scan lists all concepts, or those whose ids begin with a prefix, in byte order of their ids.
	Scan struct {
		Prefix string `wire:"prefix,optional"` // at most 512 bytes
		Limit  uint32 `wire:"limit,optional"`  // 0: 1,000; at most 10,000
		Cursor string `wire:"cursor,optional"`
	}
	// ScanOk: an empty cursor is the end.
	ScanOk struct {
		Items  []ConceptItem `wire:"items"`
		Cursor string        `wire:"cursor"`
	}
	// ReadConcept reads one concept with its version and times.
	ReadConcept struct {
		ConceptID string `wire:"concept_id"`
	}
	// ReadConceptOk has the concept's id also when it is not found.
	ReadConceptOk struct {
		Found bool `wire:"found"`
		ConceptItem
	}
	// ConceptItem is a concept without its vector.
	ConceptItem struct {
		ConceptID  string    `wire:"concept_id"`
		Content    string    `wire:"content"`
		Strength   float32   `wire:"strength"`
		Confidence float32   `wire:"confidence"`
		Metadata   *Metadata `wire:"metadata"`
		Version    uint64    `wire:"version"`  // 1 when it is new, one more with each change
		Created    float64   `wire:"created"`  // log time of the shard; of an event, when it happened
		Modified   float64   `wire:"modified"` // log time of the shard
	}
)
