// Package semantic says what a concept means, by rules: its type, its domain, the causal relation that it states, and what it
// says in a form that can be compared with what another says.
//
//	content ── words ── cues (cues.go) ── type, domain, relation
//	              └──── without negations, amounts, small words ── statement
//
// Invariants: it is pure, the same text is the same class on every node; it reads at most MaxText bytes of a content. The rules
// are docs/semantics.md and the tables in cues.go, and nothing is learnt. It imports the protocol for its names alone.
package semantic

import (
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// MaxText is how many bytes of a content are classified.
const MaxText = 64 << 10

// Attributes of a concept that say what the rules would have to guess.
const (
	TypeAttribute     = "semantic_type"
	DomainAttribute   = "domain"
	RelationAttribute = "causal_type"
)

// Class is what the rules make of a concept.
type Class struct {
	Type      string // one of transport.SemanticTypes
	Domain    string // one of transport.Domains
	Relation  string // one of transport.CausalTypes; "": it states none
	Statement transport.Statement
}

// Of classifies a content. An attribute that names a type, domain or relation in any case is believed.
func Of(content string, attributes map[string]string) Class {
	words := wordsOf(content)
	s := score(words)
	c := Class{
		Type:     s.best(transport.SemanticTypes, "entity"),
		Domain:   s.best(transport.Domains, "general"),
		Relation: s.best(transport.CausalTypes, ""),
	}
	believe(&c.Type, attributes[TypeAttribute], transport.SemanticTypes)
	believe(&c.Domain, attributes[DomainAttribute], transport.Domains)
	believe(&c.Relation, attributes[RelationAttribute], transport.CausalTypes)
	c.Statement = statementOf(words)
	return c
}

// believe takes a name that is known.
func believe(field *string, name string, names []string) {
	name = strings.ToLower(name)
	for _, known := range names {
		if known == name {
			*field = known
		}
	}
}

// scores are what each name has got. The names of types, domains and relations are distinct but for "causal", which no other has.
type scores map[string]int

// best is the name with the highest score, of several the first in the list; none when nothing scored.
func (s scores) best(names []string, none string) string {
	best := none
	for _, name := range names {
		if s[name] > s[best] {
			best = name
		}
	}
	return best
}

// score adds up the cues in a text. At each word the longest cue counts, and what it covers counts for nothing else.
func score(words []word) scores {
	s := scores{}
	for i := 0; i < len(words); {
		n := 1
		if cues := longest(words[i:], &n); cues != nil {
			for _, c := range cues {
				s[c.name] += c.weight
			}
		} else {
			words[i].score(s)
		}
		i += n
	}
	return s
}

// longest finds the longest cue that the words begin with, and how many words it has.
func longest(words []word, n *int) []cue {
	key := ""
	var found []cue
	for i := 0; i < min(len(words), maxCueWords); i++ {
		if i > 0 {
			key += " "
		}
		key += words[i].text
		if cues, ok := cuesByPhrase[key]; ok {
			found, *n = cues, i+1
		}
	}
	return found
}

// score is what a word says without being a cue: a number is an amount, or a year.
func (w word) score(s scores) {
	switch {
	case w.negates():
		s["negation"] += 3
	case w.isYear():
		s["temporal"]++
	case w.number:
		s["quantitative"]++
	}
}
