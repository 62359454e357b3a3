package transport

import "github.com/sutra-grid/sutra-grid/internal/pack"

// Requests of the Sutra protocol that the server works on itself: it embeds and links, and it classifies (docs/semantics.md).
type (
	// LearnConceptV2 learns a concept from its content; the server gives it its id (ConceptIDOf).
	LearnConceptV2 struct {
		Content string        `wire:"content"`
		Options *LearnOptions `wire:"options"` // nil: DefaultLearnOptions
	}
	// LearnBatch learns up to 1,000 concepts with the same options, not atomically: when one fails the error names it, and
	// those before it are learnt.
	LearnBatch struct {
		Contents []string      `wire:"contents"`
		Options  *LearnOptions `wire:"options"`
	}
	// LearnOptions says what the server adds to a content.
	LearnOptions struct {
		GenerateEmbedding        bool    `wire:"generate_embedding"`
		EmbeddingModel           *string `wire:"embedding_model,optional"` // a wish: a grid's vectors are comparable only when one model made them, so the configured one is used
		ExtractAssociations      bool    `wire:"extract_associations"`
		MinAssociationConfidence float32 `wire:"min_association_confidence"`
		MaxAssociations          uint32  `wire:"max_associations_per_concept"` // above MaxExtracted: MaxExtracted
		Strength                 float32 `wire:"strength"`
		Confidence               float32 `wire:"confidence"`
	}
	// LearnConceptV2Ok carries the id that the concept has now.
	LearnConceptV2Ok struct {
		ConceptID string `wire:"concept_id"`
	}
	// LearnBatchOk has one id per content, in order.
	LearnBatchOk struct {
		ConceptIDs []string `wire:"concept_ids"`
	}
	// SemanticFilter selects concepts; what is missing selects all.
	SemanticFilter struct {
		SemanticType      *string  `wire:"semantic_type,optional"`
		DomainContext     *string  `wire:"domain_context,optional"`
		TemporalAfter     *int64   `wire:"temporal_after,optional"`  // unix s, inclusive
		TemporalBefore    *int64   `wire:"temporal_before,optional"` // unix s, inclusive
		HasCausalRelation bool     `wire:"has_causal_relation,optional"`
		MinConfidence     float32  `wire:"min_confidence,optional"`
		RequiredTerms     []string `wire:"required_terms,optional"` // all must occur in the content, in any case
	}
	// FindPathSemantic asks for paths on which every concept between the ends passes the filter.
	FindPathSemantic struct {
		StartID  string          `wire:"start_id"`
		EndID    string          `wire:"end_id"`
		Filter   *SemanticFilter `wire:"filter"`
		MaxDepth uint32          `wire:"max_depth"`
		MaxPaths uint32          `wire:"max_paths"` // 0 or above 100: 100
	}
	// FindPathSemanticOk has the most certain paths first, of those the shortest, then by their ids.
	FindPathSemanticOk struct {
		Paths []SemanticPath `wire:"paths"`
	}
	// SemanticPath is one path or chain.
	SemanticPath struct {
		Concepts            []string          `wire:"concepts"`
		Confidence          float32           `wire:"confidence"`
		TypeDistribution    map[string]uint32 `wire:"type_distribution"` // semantic type -> concepts of it
		Domains             []string          `wire:"domains"`           // distinct, sorted
		IsTemporallyOrdered bool              `wire:"is_temporally_ordered"`
	}
	// FindTemporalChain asks for what followed what: in a span of time, or between two concepts. Which of the two it is the
	// fields say; by position the second one's type does.
	FindTemporalChain struct {
		Domain    *string
		StartTime *int64 // unix s, with EndTime
		EndTime   *int64
		StartID   *string // with EndID and MaxDepth
		EndID     *string
		MaxDepth  *uint32
		After     *string // ISO 8601
		Before    *string
	}
	// FindTemporalChainOk answers FindTemporalChain.
	FindTemporalChainOk struct {
		Paths []SemanticPath `wire:"paths"`
	}
	// FindCausalChain asks for what a concept leads to.
	FindCausalChain struct {
		StartID    string  `wire:"start_id"`
		CausalType *string `wire:"causal_type,optional"`
		MaxDepth   uint32  `wire:"max_depth"`
	}
	// FindCausalChainOk answers FindCausalChain.
	FindCausalChainOk struct {
		Paths []SemanticPath `wire:"paths"`
	}
	// FindContradictions asks for concepts that say the opposite of each other: in a domain (nil: in all), or around a concept.
	// Which of the two it is the fields say; by position the second one's presence as a number does.
	FindContradictions struct {
		Domain    *string
		ConceptID *string // with MaxDepth
		MaxDepth  *uint32
	}
	// FindContradictionsOk has triples: id, id, reason.
	FindContradictionsOk struct {
		Contradictions [][]string `wire:"contradictions"`
	}
	// QueryBySemantic asks for the concepts that pass a filter, in the order of their ids.
	QueryBySemantic struct {
		Filter *SemanticFilter `wire:"filter"`
		Limit  *uint32         `wire:"limit,optional"` // nil: 100; at most 10,000
	}
	// QueryBySemanticOk answers QueryBySemantic.
	QueryBySemanticOk struct {
		Concepts []SemanticConcept `wire:"concepts"`
	}
	// SemanticConcept is a concept with what the server makes of it.
	SemanticConcept struct {
		ConceptID    string  `wire:"concept_id"`
		Content      string  `wire:"content"`
		SemanticType string  `wire:"semantic_type"`
		Domain       string  `wire:"domain"`
		Confidence   float32 `wire:"confidence"`
	}
)

// What routers ask of storage nodes to serve these requests over several shards.
type (
	// Embed asks a node for the vectors of texts, whatever shard they will be in. At most 1,000.
	Embed struct {
		Texts []string `wire:"texts"`
	}
	// EmbedOk has one vector per text; empty: there is nothing to embed in it.
	EmbedOk struct {
		Embeddings [][]float32 `wire:"embeddings"`
	}
	// Exists asks which concepts are there. At most 10,000 ids.
	Exists struct {
		ConceptIDs []string `wire:"concept_ids"`
	}
	// ExistsOk has one answer per id.
	ExistsOk struct {
		Known []bool `wire:"known"`
	}
)

// temporalForm is FindTemporalChain by name.
type temporalForm struct {
	Domain    *string `wire:"domain,optional"`
	StartTime *int64  `wire:"start_time,optional"`
	EndTime   *int64  `wire:"end_time,optional"`
	StartID   *string `wire:"start_id,optional"`
	EndID     *string `wire:"end_id,optional"`
	MaxDepth  *uint32 `wire:"max_depth,optional"`
	After     *string `wire:"after,optional"`
	Before    *string `wire:"before,optional"`
}

// temporalEnds is FindTemporalChain between two concepts, by position.
type temporalEnds struct {
	StartID  string  `wire:"start_id"`
	EndID    string  `wire:"end_id"`
	MaxDepth uint32  `wire:"max_depth"`
	After    *string `wire:"after,optional"`
	Before   *string `wire:"before,optional"`
}

// temporalSpan is FindTemporalChain in a span of time, by position.
type temporalSpan struct {
	Domain    *string `wire:"domain,optional"`
	StartTime int64   `wire:"start_time"`
	EndTime   int64   `wire:"end_time"`
}

// AppendPack writes the message by name.
func (m FindTemporalChain) AppendPack(b []byte) ([]byte, error) {
	return pack.Append(b, temporalForm(m))
}

// UnpackFrom reads either form, by name or by position.
func (m *FindTemporalChain) UnpackFrom(r *pack.Reader) error {
	isMap := r.Kind() == pack.Map
	raw, err := r.Raw()
	if err != nil {
		return err
	}
	switch {
	case secondKind(raw) == pack.Str:
		var ends temporalEnds
		err := pack.Unmarshal(raw, &ends)
		*m = FindTemporalChain{StartID: &ends.StartID, EndID: &ends.EndID, MaxDepth: &ends.MaxDepth, After: ends.After, Before: ends.Before}
		return err
	case !isMap:
		var span temporalSpan
		err := pack.Unmarshal(raw, &span)
		*m = FindTemporalChain{Domain: span.Domain, StartTime: &span.StartTime, EndTime: &span.EndTime}
		return err
	}
	var all temporalForm
	if err := pack.Unmarshal(raw, &all); err != nil {
		return err
	}
	*m = FindTemporalChain(all)
	if m.ByEnds() {
		return missing(given{"start_id", m.StartID != nil}, given{"end_id", m.EndID != nil}, given{"max_depth", m.MaxDepth != nil})
	}
	return missing(given{"start_time", m.StartTime != nil}, given{"end_time", m.EndTime != nil})
}

// ByEnds tells that the chain is asked for between two concepts.
func (m *FindTemporalChain) ByEnds() bool { return m.StartID != nil || m.EndID != nil }

// contradictionsForm is FindContradictions by name.
type contradictionsForm struct {
	Domain    *string `wire:"domain,optional"`
	ConceptID *string `wire:"concept_id,optional"`
	MaxDepth  *uint32 `wire:"max_depth,optional"`
}

// contradictionsAround is FindContradictions around a concept, by position.
type contradictionsAround struct {
	ConceptID string `wire:"concept_id"`
	MaxDepth  uint32 `wire:"max_depth"`
}

// AppendPack writes the message by name.
func (m FindContradictions) AppendPack(b []byte) ([]byte, error) {
	return pack.Append(b, contradictionsForm(m))
}

// UnpackFrom reads either form, by name or by position.
func (m *FindContradictions) UnpackFrom(r *pack.Reader) error {
	isMap := r.Kind() == pack.Map
	raw, err := r.Raw()
	if err != nil {
		return err
	}
	if k := secondKind(raw); k == pack.Int || k == pack.Float {
		var around contradictionsAround
		err := pack.Unmarshal(raw, &around)
		*m = FindContradictions{ConceptID: &around.ConceptID, MaxDepth: &around.MaxDepth}
		return err
	}
	if isMap {
		var all contradictionsForm
		if err := pack.Unmarshal(raw, &all); err != nil {
			return err
		}
		if *m = FindContradictions(all); m.ConceptID != nil {
			return missing(given{"max_depth", m.MaxDepth != nil})
		}
	}
	var in struct {
		Domain *string `wire:"domain"`
	}
	err = pack.Unmarshal(raw, &in)
	*m = FindContradictions{Domain: in.Domain}
	return err
}

// secondKind is the kind of an array's second element; Nil when raw is no array or is shorter.
func secondKind(raw []byte) pack.Kind {
	r := pack.NewReader(raw)
	if r.Kind() != pack.Array {
		return pack.Nil
	}
	if n, err := r.ArrayLen(); err != nil || n < 2 || r.Skip() != nil {
		return pack.Nil
	}
	return r.Kind()
}
