package transport

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The limits of the protocols (wire specification, "Limits"). Every path that accepts a request checks them with Validate.
const (
	MaxStorageFrame = 100 << 20 // bytes of a frame's payload, storage variants
	MaxGridFrame    = 16 << 20  // bytes of a frame's payload, every other variant

	MaxContent    = 10 << 20 // bytes of a concept's content
	MaxBatch      = 1000     // requests of a Batch
	MaxOps        = 1000     // operations of a Write, Prepare or Txn
	MaxTxnBytes   = 16 << 20 // bytes of a Txn: the limit of its frame
	MaxDimension  = 2048     // components of a vector
	MaxPathDepth  = 20       // edges of a path
	MaxID         = 512      // bytes of an id, UTF-8 without NUL
	MaxTags       = 100      // tags of a concept
	MaxAttributes = 100      // attributes of a concept

	MaxDeleteEdges = 1000 // associations of a concept that is deleted

	MaxCheckpointRead  = 1 << 20 // bytes of a ReadCheckpoint
	MaxCheckpointFiles = 1 << 16 // files of a checkpoint

	MaxExpand         = 10000   // ids of an Expand
	MaxNeighborsLimit = 10000   // items of a page of Neighbors
	DefaultNeighbors  = 1000    // items of a page when the request names no limit
	MaxPageLimit      = 10000   // items of a page of QueryByMetadata or Scan
	DefaultPage       = 1000    // items of such a page when the request names no limit
	PageBytes         = 1 << 20 // such a page ends with the item that passes this
	MaxEventsLimit    = 10000   // events of a page of ListEvents
	DefaultEvents     = 1000    // events of a page when the request names no limit

	MaxK  = 1000  // results of a VectorSearch
	MaxEF = 10000 // its candidates
)

// Validate checks a request of the storage protocol, and all requests inside it, against the limits. dimension is the
// grid's vector dimension; 0 accepts every one up to MaxDimension (who does not know it leaves that to the shard).
// The error is an *event.Error of KindInvalid or KindTooLarge that names the field, the value and the bound; requests
// without limits pass.
func Validate(req any, dimension int) error {
	if e := validate(req, dimension); e != nil {
		if e.Op == "" {
			e.Op = VariantName(req)
		}
		return e
	}
	return nil
}

func validate(req any, dimension int) *event.Error {
	switch m := req.(type) {
	case *LearnConcept:
		return first(validateConcept(concept{m.ConceptID, m.Content, m.Embedding, m.Strength, m.Confidence, m.Metadata}, dimension), validTexts(m.Content, m.Metadata))
	case *LearnAssociation:
		return first(validID("source_id", m.SourceID), validID("target_id", m.TargetID), finite("confidence", m.Confidence))
	case *QueryConcept:
		return validID("concept_id", m.ConceptID)
	case *ReadConcept:
		return validID("concept_id", m.ConceptID)
	case *GetNeighbors:
		return validID("concept_id", m.ConceptID)
	case *FindPath:
		return first(validID("start_id", m.StartID), validID("end_id", m.EndID), atMost("max_depth", int64(m.MaxDepth), MaxPathDepth))
	case *GetAssociation:
		return first(validID("source_id", m.SourceID), validID("target_id", m.TargetID))
	case *Neighbors:
		return first(validID("concept_id", m.ConceptID), direction(m.Direction, "both"), atMost("limit", int64(m.Limit), MaxNeighborsLimit))
	case *Expand:
		return validateExpand(m)
	case *Batch:
		return validateBatch(m, dimension)
	case *QueryByMetadata:
		return validateQuery(m)
	case *Scan:
		return validateScan(m)
	case *VectorSearch:
		return validateVectorSearch(m, dimension)
	case *DeleteConcept:
		return validID("concept_id", m.ConceptID)
	case *DeleteAssociation:
		return first(validID("source_id", m.SourceID), validID("target_id", m.TargetID))
	case *Write:
		return validateOps(m.Ops, dimension)
	case *Prepare:
		return validatePrepare(m, dimension)
	case *Txn:
		return first(validateOps(m.Ops, dimension), noHalves(m.Ops), validOpTexts(m.Ops))
	case *TxnResults:
		return nil
	case *Routed:
		return validateRouted(m, dimension)
	case *Query:
		return validateQueryOf(m, dimension)
	}
	if e, ok := validateCheckpoint(req); ok {
		return e
	}
	return validateSemantic(req)
}

// validateCheckpoint checks the requests of nodes among themselves; ok is false for every other one.
func validateCheckpoint(req any) (e *event.Error, ok bool) {
	switch m := req.(type) {
	case *OpenCheckpoint:
		return first(validID("grid_id", m.GridID), validID("shard_id", string(m.ShardID)), validID("for", string(m.For))), true
	case *ReadCheckpoint:
		return first(validID("shard_id", string(m.ShardID)), validID("name", m.Name), atMost("bytes", int64(m.Bytes), MaxCheckpointRead)), true
	case *ShardLevel:
		return first(validID("grid_id", m.GridID), validID("shard_id", string(m.ShardID))), true
	case *CloseCheckpoint:
		return validID("shard_id", string(m.ShardID)), true
	}
	return nil, false
}

// validateRouted checks the request inside, and of a Write or Prepare the texts, which these do not check themselves: what is in
// the log was accepted, by a version perhaps that accepted more, and stays so.
func validateRouted(m *Routed, dimension int) *event.Error {
	if m.Request.Value == nil {
		return invalid("request is missing")
	}
	e := validate(m.Request.Value, dimension)
	switch q := m.Request.Value.(type) {
	case *Write:
		return first(e, validOpTexts(q.Ops))
	case *Prepare:
		return first(e, validOpTexts(q.Ops))
	}
	return e
}

func validOpTexts(ops []Op) *event.Error {
	for i := range ops {
		if e := validTexts(ops[i].Content, ops[i].Metadata); e != nil {
			e.Message = fmt.Sprintf("ops[%d]: %s", i, e.Message)
			return e
		}
		if !utf8.ValidString(ops[i].Key) || !utf8.ValidString(ops[i].Value) {
			return invalid("ops[%d]: attribute %.40q is not UTF-8, or its value %.40q is not", i, ops[i].Key, ops[i].Value)
		}
	}
	return nil
}

// validTexts refuses what no client of another language could read back.
func validTexts(content string, m *Metadata) *event.Error {
	if !utf8.ValidString(content) {
		return invalid("content is not UTF-8")
	}
	if m == nil {
		return nil
	}
	for _, tag := range m.Tags {
		if !utf8.ValidString(tag) {
			return invalid("tag %.40q is not UTF-8", tag)
		}
	}
	for k, v := range m.Attributes {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("attribute %.40q is not UTF-8, or its value %.40q is not", k, v)
		}
	}
	return nil
}

func invalid(format string, args ...any) *event.Error {
	return &event.Error{Kind: event.KindInvalid, Message: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *event.Error {
	return &event.Error{Kind: event.KindTooLarge, Message: fmt.Sprintf(format, args...)}
}

// first is the first of several findings.
func first(errs ...*event.Error) *event.Error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

func validID(field, id string) *event.Error {
	switch {
	case id == "":
		return invalid("%s is empty", field)
	case len(id) > MaxID:
		return tooLarge("%s has %d bytes: at most %d are allowed", field, len(id), MaxID)
	case !utf8.ValidString(id):
		return invalid("%s is not UTF-8", field)
	case strings.IndexByte(id, 0) >= 0:
		return invalid("%s contains a NUL byte", field)
	}
	return nil
}

func atMost(field string, n, bound int64) *event.Error {
	if n > bound {
		return tooLarge("%s is %d: at most %d is allowed", field, n, bound)
	}
	return nil
}

func finite(field string, x float32) *event.Error {
	if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
		return invalid("%s is %v: want a finite number", field, x)
	}
	return nil
}

// direction accepts out, in and what else the request allows.
func direction(d string, also ...string) *event.Error {
	for _, want := range append([]string{"out", "in"}, also...) {
		if d == want {
			return nil
		}
	}
	return invalid("direction is %.16q: want out, in%s", d, strings.Join(append([]string{""}, also...), " or "))
}

// concept is what LearnConcept and an Op of that kind have in common.
type concept struct {
	id, content          string
	embedding            []float32
	strength, confidence float32
	metadata             *Metadata
}

func validateConcept(c concept, dimension int) *event.Error {
	if e := first(validID("concept_id", c.id), finite("strength", c.strength), finite("confidence", c.confidence)); e != nil {
		return e
	}
	if len(c.content) > MaxContent {
		return tooLarge("content has %d bytes: at most %d are allowed", len(c.content), MaxContent)
	}
	if e := validVector("embedding", c.embedding, dimension); e != nil {
		return e
	}
	if c.metadata == nil {
		return nil
	}
	return first(atMost("number of tags", int64(len(c.metadata.Tags)), MaxTags),
		atMost("number of attributes", int64(len(c.metadata.Attributes)), MaxAttributes))
}

func validVector(field string, v []float32, dimension int) *event.Error {
	switch {
	case len(v) == 0:
		return nil
	case len(v) > MaxDimension:
		return tooLarge("%s has %d dimensions: at most %d are allowed", field, len(v), MaxDimension)
	case dimension != 0 && len(v) != dimension:
		return invalid("%s has %d dimensions: this grid's vectors have %d", field, len(v), dimension)
	}
	for i, x := range v {
		if x-x != 0 { // NaN or infinite; the component is named only then, as a vector has hundreds
			return finite(fmt.Sprintf("%s[%d]", field, i), x)
		}
	}
	return nil
}

func validateVectorSearch(m *VectorSearch, dimension int) *event.Error {
	if e := first(validVector("query_vector", m.QueryVector, dimension), atMost("k", int64(m.K), MaxK), atMost("ef_search", int64(m.EFSearch), MaxEF),
		atMost("number of attributes", int64(len(m.Attributes)), MaxAttributes), atMost("number of tags", int64(len(m.Tags)), MaxTags)); e != nil {
		return e
	}
	switch {
	case m.K == 0:
		return invalid("k is 0: want 1 to %d", MaxK)
	case len(m.QueryVector) == 0:
		return invalid("query_vector is empty")
	case !slices.ContainsFunc(m.QueryVector, func(x float32) bool { return x != 0 }):
		return invalid("query_vector is zero: it has no direction, and so no cosine to any other")
	}
	return nil
}

func validateExpand(m *Expand) *event.Error {
	if e := first(atMost("number of concept_ids", int64(len(m.ConceptIDs)), MaxExpand), direction(m.Direction)); e != nil {
		return e
	}
	for i, id := range m.ConceptIDs {
		if e := validID("concept_ids", id); e != nil {
			e.Message = fmt.Sprintf("concept_ids[%d]: %s", i, e.Message)
			return e
		}
	}
	return nil
}

// validateBatch checks the count only: a Batch is not atomic, so a request that breaks a limit is answered in its place
// (each is validated where it is executed).
func validateBatch(m *Batch, _ int) *event.Error {
	if e := atMost("number of requests", int64(len(m.Requests)), MaxBatch); e != nil {
		return e
	}
	for i, r := range m.Requests {
		switch r.Value.(type) {
		case nil:
			return invalid("requests[%d] is missing", i)
		case *Batch, *Routed, *Hello:
			return invalid("requests[%d] is a %s, which cannot be inside a Batch", i, VariantName(r.Value))
		}
	}
	return nil
}
