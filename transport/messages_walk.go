package transport

// What routers and nodes ask of a shard to answer the semantic requests (docs/semantics.md). A content is looked at where it
// lies, and never sent for it. The concepts and entities of the feed in event storage are not known to these reads.
type (
	// Classify asks what a shard makes of concepts of its own, at most 10,000.
	Classify struct {
		ConceptIDs []string        `wire:"concept_ids"`
		Filter     *SemanticFilter `wire:"filter,optional"` // nil: everything passes
	}
	// ClassifyOk has one answer per id, in order.
	ClassifyOk struct {
		Concepts []Classified `wire:"concepts"`
	}
	// Classified is what the rules make of a concept.
	Classified struct {
		ConceptID    string    `wire:"concept_id"`
		Known        bool      `wire:"known"` // false: there is no such concept; what follows is zero
		Passes       bool      `wire:"passes"`
		SemanticType string    `wire:"semantic_type"`
		Domain       string    `wire:"domain"`
		Relation     string    `wire:"relation"` // the causal type that its content states; "": none
		Time         int64     `wire:"time"`     // of creation, unix µs; of an event, when it happened
		Statement    Statement `wire:"statement"`
	}
	// Statement is what a content says, in a form that can be compared with another's.
	Statement struct {
		Subject uint64 `wire:"subject"` // a hash of what it is about; 0: it says nothing that can be compared
		Negated bool   `wire:"negated"`
		Numbers uint64 `wire:"numbers"` // a hash of the amounts that it states; 0: none
	}
	// Links asks for the associations of concepts of one shard, at most 10,000.
	Links struct {
		ConceptIDs []string `wire:"concept_ids"`
		Direction  string   `wire:"direction"`     // out or in
		Type       *uint32  `wire:"type,optional"` // nil: of all types
	}
	// LinksOk has a list per id: the concepts at the other ends, each once, in byte order of their ids.
	LinksOk struct {
		Links [][]Edge `wire:"links"`
	}
	// Edge is the most certain association to a concept.
	Edge struct {
		ID         string  `wire:"id"`
		Confidence float32 `wire:"confidence"`
	}
	// Survey pages through all concepts of a shard that pass a filter, in no particular order; by time where the filter bounds it.
	Survey struct {
		Filter *SemanticFilter `wire:"filter,optional"`
		Cursor string          `wire:"cursor,optional"`
	}
	// SurveyOk: a page may be empty; an empty cursor is the end.
	SurveyOk struct {
		Concepts []Classified `wire:"concepts"`
		Cursor   string       `wire:"cursor"`
	}
)
