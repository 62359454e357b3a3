package semantic

import (
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Concept is what a filter looks at.
type Concept struct {
	Content    string
	Attributes map[string]string
	Confidence float32
	Time       int64 // of creation, unix µs
}

// Filter is a filter made ready; nil selects everything. It is safe for concurrent use.
type Filter struct {
	f            transport.SemanticFilter
	kind, domain string
	terms        []string // in lower case
}

// NewFilter prepares a filter that transport.Validate has let pass.
func NewFilter(f *transport.SemanticFilter) *Filter {
	if f == nil {
		return nil
	}
	n := &Filter{f: *f, kind: lower(f.SemanticType), domain: lower(f.DomainContext)}
	for _, term := range f.RequiredTerms {
		n.terms = append(n.terms, strings.ToLower(term))
	}
	return n
}

// lower is a name as the rules write it; "": none is asked for.
func lower(name *string) string {
	if name == nil {
		return ""
	}
	return strings.ToLower(*name)
}

// Passes tells whether the filter selects a concept of a class. What is cheap is asked first, and last whether the concept has an
// association that is causal, which linked looks up.
func (f *Filter) Passes(c *Concept, class *Class, linked func() (bool, error)) (bool, error) {
	switch {
	case f == nil:
		return true, nil
	case c.Confidence < f.f.MinConfidence, !f.inTime(c.Time), f.kind != "" && f.kind != class.Type, f.domain != "" && f.domain != class.Domain, !f.hasTerms(c.Content):
		return false, nil
	case f.f.HasCausalRelation && class.Relation == "":
		return linked()
	}
	return true, nil
}

// inTime compares whole seconds, both ends included.
func (f *Filter) inTime(micros int64) bool {
	at := micros / 1e6
	if micros%1e6 < 0 {
		at--
	}
	return (f.f.TemporalAfter == nil || at >= *f.f.TemporalAfter) && (f.f.TemporalBefore == nil || at <= *f.f.TemporalBefore)
}

func (f *Filter) hasTerms(content string) bool {
	if len(f.terms) == 0 {
		return true
	}
	content = strings.ToLower(content)
	for _, term := range f.terms {
		if !strings.Contains(content, term) {
			return false
		}
	}
	return true
}

// Span is the time of creation that a filter asks for, as QueryByMetadata does: unix seconds, the end excluded. bounded is
// false when it asks for none.
func Span(f *transport.SemanticFilter) (from, to *float64, bounded bool) {
	if f == nil {
		return nil, nil, false
	}
	if f.TemporalAfter != nil {
		at := float64(*f.TemporalAfter)
		from = &at
	}
	if f.TemporalBefore != nil {
		at := float64(*f.TemporalBefore) + 1
		to = &at
	}
	return from, to, from != nil || to != nil
}
