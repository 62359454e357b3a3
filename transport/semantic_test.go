package transport

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func ptr[T any](v T) *T { return &v }

// fields is a request's fields in positional order, each with a value as a client of another language may send it.
type fields []struct {
	name     string
	value    any
	optional bool
}

func (f fields) byName(leave string, extra bool) map[string]any {
	m := map[string]any{}
	for _, x := range f {
		if x.name != leave {
			m[x.name] = x.value
		}
	}
	if extra {
		m["of_a_newer_client"] = map[string]any{"x": []int{1, 2}}
	}
	return m
}

func (f fields) byPosition() []any {
	var a []any
	for _, x := range f {
		a = append(a, x.value)
	}
	return a
}

// crossed has every integer as a float, every whole float as an integer, and nested maps alike.
func crossed(v any) any {
	switch x := v.(type) {
	case int:
		return float64(x)
	case float64:
		if x == math.Trunc(x) {
			return int64(x)
		}
	case map[string]any:
		m := map[string]any{}
		for k, v := range x {
			m[k] = crossed(v)
		}
		return m
	case []any:
		var a []any
		for _, v := range x {
			a = append(a, crossed(v))
		}
		return a
	}
	return v
}

func decodeAs(t *testing.T, variant string, fields any) (any, error) {
	t.Helper()
	b, err := msgpack.Marshal(map[string]any{variant: fields})
	if err != nil {
		t.Fatal(err)
	}
	return DecodeMessage(b)
}

var optionValues = fields{{"generate_embedding", true, false}, {"embedding_model", "m", true}, {"extract_associations", false, false},
	{"min_association_confidence", 0.5, false}, {"max_associations_per_concept", 7, false}, {"strength", 1.0, false}, {"confidence", 0.25, false}}

var optionsWant = &LearnOptions{GenerateEmbedding: true, EmbeddingModel: ptr("m"), MinAssociationConfidence: 0.5, MaxAssociations: 7, Strength: 1, Confidence: 0.25}

var filterValues = fields{{"semantic_type", "rule", true}, {"domain_context", "legal", true}, {"temporal_after", 100, true}, {"temporal_before", 200, true},
	{"has_causal_relation", true, true}, {"min_confidence", 0.5, true}, {"required_terms", []any{"a", "b"}, true}}

var filterWant = &SemanticFilter{SemanticType: ptr("rule"), DomainContext: ptr("legal"), TemporalAfter: ptr(int64(100)), TemporalBefore: ptr(int64(200)),
	HasCausalRelation: true, MinConfidence: 0.5, RequiredTerms: []string{"a", "b"}}

// TestSemanticRequests: each request in map form and array form, nested structs in either, with extra fields, integers for
// floats and the reverse, without each optional field, and without each required one.
func TestSemanticRequests(t *testing.T) {
	tests := []struct {
		variant string
		fields  fields
		want    any
	}{
		{"LearnConceptV2", fields{{"content", "c", false}, {"options", optionValues.byName("", true), false}}, &LearnConceptV2{Content: "c", Options: optionsWant}},
		{"LearnConceptV2", fields{{"content", "c", false}, {"options", optionValues.byPosition(), false}}, &LearnConceptV2{Content: "c", Options: optionsWant}},
		{"LearnConceptV2", fields{{"content", "c", false}, {"options", nil, false}}, &LearnConceptV2{Content: "c"}},
		{"LearnBatch", fields{{"contents", []any{"c", "d"}, false}, {"options", optionValues.byPosition(), false}}, &LearnBatch{Contents: []string{"c", "d"}, Options: optionsWant}},
		{"FindPathSemantic", fields{{"start_id", "a", false}, {"end_id", "b", false}, {"filter", filterValues.byName("", true), false}, {"max_depth", 5, false}, {"max_paths", 3, false}},
			&FindPathSemantic{StartID: "a", EndID: "b", Filter: filterWant, MaxDepth: 5, MaxPaths: 3}},
		{"FindPathSemantic", fields{{"start_id", "a", false}, {"end_id", "b", false}, {"filter", filterValues.byPosition(), false}, {"max_depth", 5, false}, {"max_paths", 3, false}},
			&FindPathSemantic{StartID: "a", EndID: "b", Filter: filterWant, MaxDepth: 5, MaxPaths: 3}},
		{"FindTemporalChain", fields{{"domain", "legal", true}, {"start_time", -5, false}, {"end_time", 9, false}},
			&FindTemporalChain{Domain: ptr("legal"), StartTime: ptr(int64(-5)), EndTime: ptr(int64(9))}},
		{"FindTemporalChain", fields{{"start_id", "a", false}, {"end_id", "b", false}, {"max_depth", 4, false}, {"after", "2020-01-01", true}, {"before", "2021-01-01", true}},
			&FindTemporalChain{StartID: ptr("a"), EndID: ptr("b"), MaxDepth: ptr(uint32(4)), After: ptr("2020-01-01"), Before: ptr("2021-01-01")}},
		{"FindCausalChain", fields{{"start_id", "a", false}, {"causal_type", "direct", true}, {"max_depth", 3, false}}, &FindCausalChain{StartID: "a", CausalType: ptr("direct"), MaxDepth: 3}},
		{"FindContradictions", fields{{"domain", "legal", false}}, &FindContradictions{Domain: ptr("legal")}},
		{"FindContradictions", fields{{"domain", nil, false}}, &FindContradictions{}},
		{"FindContradictions", fields{{"concept_id", "a", false}, {"max_depth", 2, false}}, &FindContradictions{ConceptID: ptr("a"), MaxDepth: ptr(uint32(2))}},
		{"QueryBySemantic", fields{{"filter", filterValues.byName("", false), false}, {"limit", 10, true}}, &QueryBySemantic{Filter: filterWant, Limit: ptr(uint32(10))}},
		{"Embed", fields{{"texts", []any{"a"}, false}}, &Embed{Texts: []string{"a"}}},
		{"Exists", fields{{"concept_ids", []any{"a"}, false}}, &Exists{ConceptIDs: []string{"a"}}},
	}
	for _, tt := range tests {
		forms := map[string]any{
			"by name": tt.fields.byName("", false), "with extra fields": tt.fields.byName("", true), "by position": tt.fields.byPosition(),
			"crossed": crossed(tt.fields.byName("", false)), "crossed, by position": crossed(tt.fields.byPosition()),
		}
		if tt.variant != "FindContradictions" { // by position its second field says what it is
			forms["by position, longer"] = append(tt.fields.byPosition(), "more")
		}
		for form, value := range forms {
			got, err := decodeAs(t, tt.variant, value)
			if d := cmp.Diff(tt.want, got); err != nil || d != "" {
				t.Errorf("%s %s: %v, %s", tt.variant, form, err, d)
			}
		}
		for _, f := range tt.fields {
			got, err := decodeAs(t, tt.variant, tt.fields.byName(f.name, false))
			if f.optional != (err == nil) {
				t.Errorf("%s without %s (optional: %v): %v, %v", tt.variant, f.name, f.optional, got, err)
			}
		}
	}
}

func TestOptionsAndFilterWithoutFields(t *testing.T) {
	for _, f := range optionValues {
		_, err := decodeAs(t, "LearnConceptV2", map[string]any{"content": "c", "options": optionValues.byName(f.name, false)})
		if f.optional != (err == nil) || err != nil && !strings.Contains(err.Error(), f.name) {
			t.Errorf("options without %s: %v", f.name, err)
		}
	}
	for _, f := range filterValues {
		if _, err := decodeAs(t, "QueryBySemantic", map[string]any{"filter": filterValues.byName(f.name, false)}); err != nil {
			t.Errorf("filter without %s: %v", f.name, err)
		}
	}
	got, err := decodeAs(t, "QueryBySemantic", []any{map[string]any{}})
	if d := cmp.Diff(any(&QueryBySemantic{Filter: &SemanticFilter{}}), got); err != nil || d != "" {
		t.Error(err, d)
	}
	for _, v := range []string{"LearnConceptV2", "FindTemporalChain", "FindContradictions", "FindCausalChain"} {
		for _, bad := range []any{nil, 5, "x", []any{}, map[string]any{}, []any{5}} {
			if got, err := decodeAs(t, v, bad); err == nil {
				t.Errorf("%s with %v is %+v", v, bad, got)
			}
		}
	}
}

func TestSemanticLimits(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	long := strings.Repeat("x", MaxContent+1)
	opt := func(change func(*LearnOptions)) *LearnOptions {
		o := DefaultLearnOptions()
		change(&o)
		return &o
	}
	tests := []struct {
		req  any
		kind event.Kind
		says string
	}{
		{&LearnConceptV2{Content: "c"}, "", ""},
		{&LearnConceptV2{Content: long[1:]}, "", ""},
		{&LearnConceptV2{Content: long}, event.KindTooLarge, "10485761"},
		{&LearnConceptV2{}, event.KindInvalid, "content is empty"},
		{&LearnConceptV2{Content: "c", Options: opt(func(o *LearnOptions) { o.Strength = nan })}, event.KindInvalid, "strength"},
		{&LearnConceptV2{Content: "c", Options: opt(func(o *LearnOptions) { o.Confidence = inf })}, event.KindInvalid, "confidence"},
		{&LearnConceptV2{Content: "c", Options: opt(func(o *LearnOptions) { o.MinAssociationConfidence = nan })}, event.KindInvalid, "min_association_confidence"},
		{&LearnBatch{Contents: slices.Repeat([]string{"c"}, 1000)}, "", ""},
		{&LearnBatch{Contents: slices.Repeat([]string{"c"}, 1001)}, event.KindTooLarge, "1001"},
		{&LearnBatch{Contents: []string{"c", long}}, event.KindTooLarge, "contents[1]"},
		{&LearnBatch{Contents: []string{"c", ""}}, event.KindInvalid, "contents[1]"},
		{&FindPathSemantic{StartID: "a", EndID: "b", MaxDepth: 20, MaxPaths: 1 << 31}, "", ""},
		{&FindPathSemantic{StartID: "a", EndID: "b", MaxDepth: 21}, event.KindTooLarge, "max_depth"},
		{&FindPathSemantic{StartID: strings.Repeat("x", 513), EndID: "b"}, event.KindTooLarge, "start_id"},
		{&FindPathSemantic{StartID: "a", EndID: "\xff"}, event.KindInvalid, "end_id"},
		{&FindPathSemantic{StartID: "a", EndID: "b", Filter: &SemanticFilter{MinConfidence: nan}}, event.KindInvalid, "min_confidence"},
		{&FindTemporalChain{StartTime: ptr(int64(2)), EndTime: ptr(int64(1))}, event.KindInvalid, "start_time"},
		{&FindTemporalChain{StartID: ptr("a"), EndID: ptr("b"), MaxDepth: ptr(uint32(21))}, event.KindTooLarge, "max_depth"},
		{&FindTemporalChain{StartID: ptr("a"), EndID: ptr("b"), MaxDepth: ptr(uint32(2)), After: ptr("yesterday")}, event.KindInvalid, "ISO 8601"},
		{&FindTemporalChain{StartID: ptr("a"), EndID: ptr("b"), MaxDepth: ptr(uint32(2)), Before: ptr("2020-02-30")}, event.KindInvalid, "before"},
		{&FindCausalChain{StartID: "a", MaxDepth: 21}, event.KindTooLarge, "max_depth"},
		{&FindContradictions{}, "", ""},
		{&FindContradictions{ConceptID: ptr("a\x00"), MaxDepth: ptr(uint32(2))}, event.KindInvalid, "NUL"},
		{&FindContradictions{ConceptID: ptr("a"), MaxDepth: ptr(uint32(21))}, event.KindTooLarge, "max_depth"},
		{&QueryBySemantic{}, "", ""},
		{&QueryBySemantic{Limit: ptr(uint32(10001))}, event.KindTooLarge, "limit"},
		{&QueryBySemantic{Filter: &SemanticFilter{RequiredTerms: make([]string, 101)}}, event.KindTooLarge, "required_terms"},
		{&QueryBySemantic{Filter: &SemanticFilter{RequiredTerms: []string{strings.Repeat("x", 513)}}}, event.KindTooLarge, "required_terms[0]"},
		{&Embed{Texts: make([]string, 1001)}, event.KindTooLarge, "texts"},
		{&Exists{ConceptIDs: slices.Repeat([]string{"a"}, 10001)}, event.KindTooLarge, "concept_ids"},
		{&Exists{ConceptIDs: []string{"a", ""}}, event.KindInvalid, "concept_ids[1]"},
	}
	for i, tt := range tests {
		err := Validate(tt.req, 768)
		var e *event.Error
		if tt.kind == "" && err != nil || tt.kind != "" && (!errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.says)) {
			t.Errorf("%d, %T: %v, want %s with %q", i, tt.req, err, tt.kind, tt.says)
		}
	}
}

func TestParseISO(t *testing.T) {
	for s, want := range map[string]int64{"1970-01-02": 86400, "1970-01-01T00:00:05Z": 5, "1970-01-01T01:00:00+01:00": 0, "1970-01-01T00:01:05": 65, "1970-01-01T00:01": 60,
		"1970-01-01T00:00:05.75Z": 5} {
		if got, ok := ParseISO(s); !ok || got != want {
			t.Errorf("%s is %d, %v", s, got, ok)
		}
	}
}

// TestConceptIDs: what makes a repeated request harmless must never change.
func TestConceptIDs(t *testing.T) {
	if id := ConceptIDOf("hello"); id != "2cf24dba5fb0a30e26e83b2ac5b9e29e" {
		t.Error(id)
	}
	if fmt.Sprint(LearnOptionsOf(nil)) != fmt.Sprint(DefaultLearnOptions()) {
		t.Error("no options are not the default ones")
	}
}
