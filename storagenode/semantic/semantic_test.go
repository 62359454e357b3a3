package semantic

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/transport"
)

// TestRules is the table of docs/semantics.md: a content, and what it is.
func TestRules(t *testing.T) {
	for _, tt := range []struct{ content, kind, domain, relation string }{
		{"", "entity", "general", ""},
		{"the Eiffel Tower", "entity", "general", ""},
		{"A penguin cannot fly", "negation", "general", ""},
		{"The patient isn't in pain", "negation", "medical", ""},
		{"If the disk is full, writes are refused", "condition", "technical", ""},
		{"Unless it rains we go", "condition", "general", ""},
		{"Smoking causes cancer", "causal", "medical", "direct"},
		{"The outage happened because of a broken network", "causal", "technical", "direct"},
		{"Stress contributes to disease", "causal", "medical", "indirect"},
		{"The API enables growth", "causal", "technical", "enabling"},
		{"A vaccine prevents infection", "causal", "medical", "preventing"},
		{"Income correlates with health", "causal", "medical", "correlation"},
		{"Every contract must be signed by the judge", "rule", "legal", ""},
		{"Employees shall wear a badge", "rule", "business", ""},
		{"You must not enter", "rule", "general", ""},
		{"An atom is a particle", "definitional", "scientific", ""},
		{"Inflation refers to rising prices", "definitional", "financial", ""},
		{"Water freezes before noon", "temporal", "general", ""},
		{"The year 1989", "temporal", "general", ""},
		{"The war ended", "event", "general", ""},
		{"The node crashed", "event", "technical", ""},
		{"Revenue: 45% of the total", "quantitative", "business", ""},
		{"3,000 dollars", "quantitative", "general", ""},
		{"12 34 56", "quantitative", "general", ""},
		{"NEVER", "negation", "general", ""},
		{"Das Gemälde ist schön", "entity", "general", ""},
	} {
		c := Of(tt.content, nil)
		if c.Type != tt.kind || c.Domain != tt.domain || c.Relation != tt.relation {
			t.Errorf("%q is %s of %s, relation %q; want %s, %s, %q", tt.content, c.Type, c.Domain, c.Relation, tt.kind, tt.domain, tt.relation)
		}
	}
}

// TestAttributesAreBelieved when they name something that is known.
func TestAttributesAreBelieved(t *testing.T) {
	c := Of("Smoking causes cancer", map[string]string{TypeAttribute: "Rule", DomainAttribute: "LEGAL", RelationAttribute: "indirect"})
	if c.Type != "rule" || c.Domain != "legal" || c.Relation != "indirect" {
		t.Errorf("got %+v", c)
	}
	c = Of("Smoking causes cancer", map[string]string{TypeAttribute: "poem", DomainAttribute: "", RelationAttribute: "x"})
	if c.Type != "causal" || c.Domain != "medical" || c.Relation != "direct" {
		t.Errorf("got %+v", c)
	}
}

// TestTablesAreWhole: every name has cues, every cue has a name, no phrase is longer than is looked for or can never be met.
func TestTablesAreWhole(t *testing.T) {
	names := slices.Concat(transport.SemanticTypes, transport.Domains, transport.CausalTypes)
	has := map[string]bool{"entity": true, "general": true, "causal": true} // what is left, and what the relations speak for
	for _, row := range cueTable {
		has[row.name] = true
		if !slices.Contains(names, row.name) {
			t.Errorf("cues of %q, which is no name", row.name)
		}
		for phrase := range strings.SplitSeq(row.phrases, "|") {
			var words []string
			for _, w := range wordsOf(phrase) {
				words = append(words, w.text)
			}
			if strings.Join(words, " ") != phrase || len(words) == 0 || len(words) > maxCueWords {
				t.Errorf("the phrase %q of %s is never met", phrase, row.name)
			}
		}
	}
	for _, name := range names {
		if !has[name] {
			t.Errorf("nothing speaks for %s", name)
		}
	}
	for _, name := range transport.CausalTypes {
		if !relations[name] {
			t.Errorf("%s does not speak for causal", name)
		}
	}
}

// TestStatements: what can be compared, and how.
func TestStatements(t *testing.T) {
	const (
		none = iota // not about the same
		same
		denied  // the same, the other way round
		amounts // the same, other amounts
	)
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"The drug is safe", "The drug is not safe", denied},
		{"The drug is safe", "drugs are unsafe", denied},
		{"The drug isn't safe", "The drug is safe.", denied},
		{"The drug is not unsafe", "The drug is safe", same},
		{"Aspirin increases bleeding", "Aspirin decreases bleeding", denied},
		{"Aspirin does not increase bleeding", "aspirin never increases bleeding", same},
		{"Swimming is allowed here", "Swimming is forbidden here", denied},
		{"Water boils at 100 degrees", "Water boils at 90 degrees", none}, // nothing says that it is so
		{"The boiling point is 100 degrees", "The boiling point is 90 degrees", amounts},
		{"The boiling point is 100 degrees", "the boiling points are 100 degrees", same},
		{"A spider has 8 legs", "A spider has 6 legs", amounts},
		{"Chapter 1 is long", "Chapter 2 is long", none},
		{"dog bites man", "man bites dog", none},
		{"not good", "good", none},
		{"", "", none},
		{strings.Repeat("long story ", 33), strings.Repeat("long story ", 33), none},
	} {
		a, b := Of(tt.a, nil).Statement, Of(tt.b, nil).Statement
		got := none
		if a.Subject != 0 && a.Subject == b.Subject {
			got = same
			if a.Numbers != b.Numbers {
				got = amounts
			} else if a.Negated != b.Negated {
				got = denied
			}
		}
		if got != tt.want {
			t.Errorf("%q and %q: %d, want %d (%+v, %+v)", tt.a, tt.b, got, tt.want, a, b)
		}
	}
}

// TestAnyTextIsClassified, also what is no text.
func TestAnyTextIsClassified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "text"))
		c := Of(text, nil)
		if !slices.Contains(transport.SemanticTypes, c.Type) || !slices.Contains(transport.Domains, c.Domain) || c.Relation != "" && !slices.Contains(transport.CausalTypes, c.Relation) {
			t.Fatalf("%q is %+v", text, c)
		}
	})
	long := strings.Repeat("ü", MaxText) + " never"
	if c := Of(long, nil); c.Type != "entity" {
		t.Errorf("what lies behind %d bytes is read: %+v", MaxText, c.Type)
	}
	if got := clip(strings.Repeat("x", MaxText-1) + "ü"); len(got) != MaxText-1 {
		t.Errorf("cut at %d bytes", len(got))
	}
}

func ptr[T any](v T) *T { return &v }

func TestFilter(t *testing.T) {
	c := &Concept{Content: "Smoking causes Cancer", Confidence: 0.5, Time: 10_999_999}
	plain := &Concept{Content: "the tower", Confidence: 0.5, Time: -1}
	linked := true
	for _, tt := range []struct {
		f    *transport.SemanticFilter
		c    *Concept
		want bool
	}{
		{nil, c, true},
		{&transport.SemanticFilter{}, c, true},
		{&transport.SemanticFilter{SemanticType: ptr("Causal")}, c, true},
		{&transport.SemanticFilter{SemanticType: ptr("rule")}, c, false},
		{&transport.SemanticFilter{SemanticType: ptr(""), DomainContext: ptr("")}, c, true},
		{&transport.SemanticFilter{DomainContext: ptr("MEDICAL")}, c, true},
		{&transport.SemanticFilter{DomainContext: ptr("legal")}, c, false},
		{&transport.SemanticFilter{MinConfidence: 0.5}, c, true},
		{&transport.SemanticFilter{MinConfidence: 0.51}, c, false},
		{&transport.SemanticFilter{TemporalAfter: ptr(int64(10)), TemporalBefore: ptr(int64(10))}, c, true},
		{&transport.SemanticFilter{TemporalAfter: ptr(int64(11))}, c, false},
		{&transport.SemanticFilter{TemporalBefore: ptr(int64(9))}, c, false},
		{&transport.SemanticFilter{TemporalBefore: ptr(int64(-1))}, plain, true},
		{&transport.SemanticFilter{TemporalAfter: ptr(int64(0))}, plain, false},
		{&transport.SemanticFilter{RequiredTerms: []string{"SMOKING", "cancer"}}, c, true},
		{&transport.SemanticFilter{RequiredTerms: []string{"smoking", "tea"}}, c, false},
		{&transport.SemanticFilter{HasCausalRelation: true}, c, true},
		{&transport.SemanticFilter{HasCausalRelation: true}, plain, linked},
	} {
		class := Of(tt.c.Content, nil)
		got, err := NewFilter(tt.f).Passes(tt.c, &class, func() (bool, error) { return linked, nil })
		if got != tt.want || err != nil {
			t.Errorf("%+v on %q: %v, %v", tt.f, tt.c.Content, got, err)
		}
	}
	from, to, bounded := Span(&transport.SemanticFilter{TemporalAfter: ptr(int64(5)), TemporalBefore: ptr(int64(7))})
	if !bounded || *from != 5 || *to != 8 {
		t.Error("the span is wrong")
	}
	if _, _, bounded := Span(&transport.SemanticFilter{MinConfidence: 1}); bounded {
		t.Error("a span of nothing")
	}
}
