package transport

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Limits of the requests of messages_semantic.go.
const (
	MaxExtracted     = 100      // associations that one LearnConceptV2 adds
	MaxPaths         = 100      // paths of one answer
	DefaultSemantic  = 100      // concepts of a QueryBySemantic without a limit
	MaxSemanticLimit = 10000    // concepts of a QueryBySemantic
	MaxTerms         = 100      // required terms of a filter, each at most MaxID bytes
	MaxExists        = 10000    // ids of an Exists, Classify or Links
	SemanticBytes    = 32 << 20 // of the contents in the answer to one QueryBySemantic
)

// The names that the semantic requests know, in lower case; requests may write them in any. Each list is in the order in which
// the first of several that fit as well is taken (docs/semantics.md).
var (
	SemanticTypes = []string{"negation", "condition", "causal", "rule", "definitional", "temporal", "event", "quantitative", "entity"}
	Domains       = []string{"medical", "legal", "financial", "technical", "scientific", "business", "general"}
	CausalTypes   = []string{"direct", "indirect", "enabling", "preventing", "correlation"}
)

// CausalAssociation is the protocol's association type for what brings something about.
const CausalAssociation = 1

// DefaultLearnOptions are those of a request without any.
func DefaultLearnOptions() LearnOptions {
	return LearnOptions{GenerateEmbedding: true, ExtractAssociations: true, MinAssociationConfidence: 0.5, MaxAssociations: 10, Strength: 1, Confidence: 1}
}

// LearnOptionsOf are a request's options, or the default.
func LearnOptionsOf(o *LearnOptions) LearnOptions {
	if o == nil {
		return DefaultLearnOptions()
	}
	return *o
}

// ConceptIDOf is the id of a concept that is learnt by its content alone: the first 16 bytes of the content's SHA-256, in hex.
// The same content is the same concept, so whoever repeats such a request, with a request id or without, stores it once.
func ConceptIDOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:16])
}

// given is a field and whether it was there.
type given struct {
	name string
	ok   bool
}

// missing names the first field that was not there.
func missing(fields ...given) error {
	for _, f := range fields {
		if !f.ok {
			return fmt.Errorf("field %q is missing", f.name)
		}
	}
	return nil
}

// isoForms are the forms of ISO 8601 that are accepted; without a zone it is UTC.
var isoForms = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"}

// ParseISO reads a time as unix seconds.
func ParseISO(s string) (int64, bool) {
	for _, form := range isoForms {
		if t, err := time.Parse(form, s); err == nil {
			return t.Unix(), true
		}
	}
	return 0, false
}

// validateSemantic checks the requests of messages_semantic.go; others pass.
func validateSemantic(req any) *event.Error {
	switch m := req.(type) {
	case *LearnConceptV2:
		return first(validContent("content", m.Content), validOptions(m.Options))
	case *LearnBatch:
		return first(atMost("number of contents", int64(len(m.Contents)), MaxBatch), validContents(m.Contents), validOptions(m.Options))
	case *FindPathSemantic:
		return first(validID("start_id", m.StartID), validID("end_id", m.EndID), validFilter(m.Filter), atMost("max_depth", int64(m.MaxDepth), MaxPathDepth))
	case *FindTemporalChain:
		return validTemporal(m)
	case *FindCausalChain:
		return first(validID("start_id", m.StartID), validName("causal_type", m.CausalType, CausalTypes), atMost("max_depth", int64(m.MaxDepth), MaxPathDepth))
	case *FindContradictions:
		if m.ConceptID == nil {
			return validName("domain", m.Domain, Domains)
		}
		return first(validID("concept_id", *m.ConceptID), validName("domain", m.Domain, Domains), atMost("max_depth", int64(*m.MaxDepth), MaxPathDepth))
	case *QueryBySemantic:
		if m.Limit == nil {
			return validFilter(m.Filter)
		}
		return first(validFilter(m.Filter), atMost("limit", int64(*m.Limit), MaxSemanticLimit))
	case *Embed:
		return first(atMost("number of texts", int64(len(m.Texts)), MaxBatch), validContents(m.Texts))
	case *Classify:
		return first(validFrontier(m.ConceptIDs), validFilter(m.Filter))
	case *Links:
		return first(validFrontier(m.ConceptIDs), direction(m.Direction))
	case *Survey:
		return validFilter(m.Filter) // its cursor is one of the engine's, which knows its own
	case *Exists:
		return validFrontier(m.ConceptIDs)
	}
	return nil
}

// validFrontier checks the ids of a read of many concepts.
func validFrontier(ids []string) *event.Error {
	if e := atMost("number of concept_ids", int64(len(ids)), MaxExists); e != nil {
		return e
	}
	return validIDs("concept_ids", ids)
}

// validName accepts one of the names in any case, and none at all.
func validName(field string, name *string, names []string) *event.Error {
	if name == nil || *name == "" || slices.Contains(names, strings.ToLower(*name)) {
		return nil
	}
	return invalid("%s is %.40q: want one of %s", field, *name, strings.Join(names, ", "))
}

func validContent(field, content string) *event.Error {
	switch {
	case content == "":
		return invalid("%s is empty: there is nothing to learn", field)
	case len(content) > MaxContent:
		return tooLarge("%s has %d bytes: at most %d are allowed", field, len(content), MaxContent)
	case !utf8.ValidString(content):
		return invalid("%s is not UTF-8", field)
	}
	return nil
}

func validContents(contents []string) *event.Error {
	for i, c := range contents {
		if e := validContent(fmt.Sprintf("contents[%d]", i), c); e != nil {
			return e
		}
	}
	return nil
}

func validIDs(field string, ids []string) *event.Error {
	for i, id := range ids {
		if e := validID(field, id); e != nil {
			e.Message = fmt.Sprintf("%s[%d]: %s", field, i, e.Message)
			return e
		}
	}
	return nil
}

func validOptions(o *LearnOptions) *event.Error {
	if o == nil {
		return nil
	}
	return first(finite("min_association_confidence", o.MinAssociationConfidence), finite("strength", o.Strength), finite("confidence", o.Confidence))
}

func validFilter(f *SemanticFilter) *event.Error {
	if f == nil {
		return nil
	}
	if e := first(validName("semantic_type", f.SemanticType, SemanticTypes), validName("domain_context", f.DomainContext, Domains),
		finite("min_confidence", f.MinConfidence), atMost("number of required_terms", int64(len(f.RequiredTerms)), MaxTerms)); e != nil {
		return e
	}
	for i, term := range f.RequiredTerms {
		if len(term) > MaxID {
			return tooLarge("required_terms[%d] has %d bytes: at most %d are allowed", i, len(term), MaxID)
		}
	}
	return nil
}

func validTemporal(m *FindTemporalChain) *event.Error {
	if !m.ByEnds() {
		if *m.StartTime > *m.EndTime {
			return invalid("start_time %d is after end_time %d", *m.StartTime, *m.EndTime)
		}
		return validName("domain", m.Domain, Domains)
	}
	for _, bound := range []struct {
		name  string
		value *string
	}{{"after", m.After}, {"before", m.Before}} {
		if bound.value != nil {
			if _, ok := ParseISO(*bound.value); !ok {
				return invalid("%s is %.40q: want ISO 8601, for example 2006-01-02T15:04:05Z", bound.name, *bound.value)
			}
		}
	}
	return first(validID("start_id", *m.StartID), validID("end_id", *m.EndID), atMost("max_depth", int64(*m.MaxDepth), MaxPathDepth))
}

// LimitOf is how many concepts a query asks for.
func LimitOf(q *QueryBySemantic) int {
	if q.Limit == nil {
		return DefaultSemantic
	}
	return int(*q.Limit)
}

// TooMuchContent refuses an answer to QueryBySemantic.
func TooMuchContent() *event.Error {
	return &event.Error{Kind: event.KindTooLarge, Op: "QueryBySemantic", Message: fmt.Sprintf("the answer is larger than %d MiB: ask with a smaller limit", SemanticBytes>>20)}
}
