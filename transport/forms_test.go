package transport

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// sent is one field as a client may send it: a number in another width or kind than ours, a struct in its other form.
type sent struct {
	name     string
	raw      []byte
	optional bool
}

func text(s string) []byte { return pack.AppendString(nil, s) }
func whole(n int64) []byte { return pack.AppendInt(nil, n) }
func texts(list ...string) []byte {
	b := pack.AppendArrayHeader(nil, len(list))
	for _, s := range list {
		b = pack.AppendString(b, s)
	}
	return b
}
func list(items ...[]byte) []byte {
	b := pack.AppendArrayHeader(nil, len(items))
	for _, item := range items {
		b = append(b, item...)
	}
	return b
}

// double is a float64, which clients send for every number.
func double(f float64) []byte { return pack.AppendFloat64(nil, f) }

// TestFormsOfEveryRequest reads every request of the storage protocol with fields as a map, as an array, with fields of a newer
// client, and without what is optional; integers as floats and floats as integers.
func TestFormsOfEveryRequest(t *testing.T) {
	three, one, two := uint32(3), 1.0, 2.5
	yes, none := []byte{0xc3}, []byte{0xc0}
	filter := &SemanticFilter{ptr("rule"), nil, ptr(int64(1)), nil, true, 0.5, []string{"t"}}
	filterSent := list(text("rule"), none, double(1), none, yes, double(0.5), texts("t"))
	covered := map[string]bool{}
	metadata := list(append(pack.AppendMapHeader(nil, 1), append(text("k"), text("v")...)...), texts("t"))
	for _, tt := range []struct {
		want, least any
		fields      []sent
	}{
		{&LearnConcept{"a", "c", []float32{1, 0.5}, 1, 0.5, &Metadata{map[string]string{"k": "v"}, []string{"t"}}}, &LearnConcept{"a", "c", []float32{1, 0.5}, 1, 0.5, nil},
			[]sent{{"concept_id", text("a"), false}, {"content", text("c"), false}, {"embedding", list(whole(1), double(0.5)), false}, {"strength", whole(1), false},
				{"confidence", double(0.5), false}, {"metadata", metadata, true}}},
		{&LearnAssociation{"a", "b", 3, 1}, nil, []sent{{"source_id", text("a"), false}, {"target_id", text("b"), false}, {"assoc_type", double(3), false}, {"confidence", whole(1), false}}},
		{&QueryConcept{"a"}, nil, []sent{{"concept_id", text("a"), false}}},
		{&ReadConcept{"a"}, nil, []sent{{"concept_id", text("a"), false}}},
		{&GetNeighbors{"a"}, nil, []sent{{"concept_id", text("a"), false}}},
		{&FindPath{"a", "b", 3}, nil, []sent{{"start_id", text("a"), false}, {"end_id", text("b"), false}, {"max_depth", double(3), false}}},
		{&GetAssociation{"a", "b"}, nil, []sent{{"source_id", text("a"), false}, {"target_id", text("b"), false}}},
		{&Neighbors{"a", "out", &three, 3, "x"}, &Neighbors{ConceptID: "a", Direction: "out"}, []sent{{"concept_id", text("a"), false}, {"direction", text("out"), false},
			{"type", double(3), true}, {"limit", double(3), true}, {"cursor", text("x"), true}}},
		{&DeleteConcept{"a"}, nil, []sent{{"concept_id", text("a"), false}}},
		{&DeleteAssociation{"a", "b", &three}, &DeleteAssociation{SourceID: "a", TargetID: "b"}, []sent{{"source_id", text("a"), false}, {"target_id", text("b"), false},
			{"assoc_type", double(3), true}}},
		{&QueryByMetadata{map[string]string{"k": "v"}, []string{"t"}, &one, &two, "desc", 3, "x"}, &QueryByMetadata{}, []sent{
			{"attributes", append(pack.AppendMapHeader(nil, 1), append(text("k"), text("v")...)...), true}, {"tags", texts("t"), true}, {"from", whole(1), true},
			{"to", double(2.5), true}, {"order", text("desc"), true}, {"limit", double(3), true}, {"cursor", text("x"), true}}},
		{&Scan{"p", 3, "x"}, &Scan{}, []sent{{"prefix", text("p"), true}, {"limit", double(3), true}, {"cursor", text("x"), true}}},
		{&VectorSearch{[]float32{1, 0.5}, 3, 64, map[string]string{"k": "v"}, []string{"t"}, true}, &VectorSearch{QueryVector: []float32{1, 0.5}, K: 3, EFSearch: 64}, []sent{
			{"query_vector", list(whole(1), double(0.5)), false}, {"k", double(3), false}, {"ef_search", double(64), false},
			{"attributes", append(pack.AppendMapHeader(nil, 1), append(text("k"), text("v")...)...), true}, {"tags", texts("t"), true}, {"exact", pack.AppendBool(nil, true), true}}},
		{&Query{Any{&GetStats{}}, true, "stale", 3}, &Query{Request: Any{&GetStats{}}}, []sent{{"request", text("GetStats"), false}, {"partial", pack.AppendBool(nil, true), true},
			{"consistency", text("stale"), true}, {"timeout_millis", double(3), true}}},
		{&Expand{[]string{"a"}, "in"}, nil, []sent{{"concept_ids", texts("a"), false}, {"direction", text("in"), false}}},
		{&Classify{[]string{"a"}, filter}, &Classify{ConceptIDs: []string{"a"}}, []sent{{"concept_ids", texts("a"), false}, {"filter", filterSent, true}}},
		{&Links{[]string{"a"}, "out", &three}, &Links{ConceptIDs: []string{"a"}, Direction: "out"}, []sent{{"concept_ids", texts("a"), false}, {"direction", text("out"), false},
			{"type", double(3), true}}},
		{&Survey{filter, "x"}, &Survey{}, []sent{{"filter", filterSent, true}, {"cursor", text("x"), true}}},
		{&Batch{[]Any{{&GetStats{}}, {&QueryConcept{"a"}}}}, nil, []sent{{"requests", list(text("GetStats"), append(append([]byte{0x81}, text("QueryConcept")...), texts("a")...)), false}}},
		{&Hello{1, "t", []string{"f"}}, &Hello{Version: 1}, []sent{{"version", double(1), false}, {"token", text("t"), true}, {"features", texts("f"), true}}},
	} {
		covered[VariantName(tt.want)] = true
		if tt.least == nil {
			tt.least = tt.want
		}
		name := VariantName(tt.want)
		for form, c := range map[string]struct {
			body []byte
			want any
		}{
			"map":                 {asMap(tt.fields, true), tt.want},
			"array":               {asArray(tt.fields, true), tt.want},
			"map, more fields":    {asMap(append([]sent{{name: "of_tomorrow", raw: texts("x")}}, tt.fields...), true), tt.want},
			"array, more fields":  {asArray(append(tt.fields[:len(tt.fields):len(tt.fields)], sent{name: "of_tomorrow", raw: texts("x")}), true), tt.want},
			"map, fewer fields":   {asMap(tt.fields, false), tt.least},
			"array, fewer fields": {asArray(tt.fields, false), tt.least},
		} {
			got, err := DecodeMessage(append(append(pack.AppendMapHeader(nil, 1), text(name)...), c.body...))
			if d := cmp.Diff(c.want, got); err != nil || d != "" {
				t.Errorf("%s as a %s: %v\n%s", name, form, err, d)
			}
		}
		missesRequired(t, name, tt.fields)
	}
	coversTheProtocol(t, covered)
}

// coversTheProtocol: every request of the storage protocol is in the table above, in TestSemanticRequests, has no fields, or is
// sent by our own programs alone, by name.
func coversTheProtocol(t *testing.T, covered map[string]bool) {
	t.Helper()
	for _, also := range []any{LearnConceptV2{}, LearnBatch{}, FindPathSemantic{}, FindTemporalChain{}, FindCausalChain{}, FindContradictions{}, QueryBySemantic{}, Embed{}, Exists{},
		GetAllConceptIds{}, GetStats{}, Flush{}, HealthCheck{}, ContentHash{}, OpenCheckpoint{}, ReadCheckpoint{}, CloseCheckpoint{}, ShardLevel{},
		Routed{}, Write{}, Prepare{}, Finish{}, TxnResults{}, PreparedTxns{}} {
		covered[VariantName(also)] = true
	}
	for _, v := range sortedVariants() {
		if v.has(storage) && !strings.HasSuffix(v.name, "Ok") && !covered[v.name] {
			t.Errorf("nothing shows in which forms %s is read", v.name)
		}
	}
}

// TestFormsOfUnitRequests: as a string, and with no fields, nil, or fields of a newer client.
func TestFormsOfUnitRequests(t *testing.T) {
	for _, want := range []any{&GetAllConceptIds{}, &GetStats{}, &Flush{}, &HealthCheck{}} {
		name := text(VariantName(want))
		for form, fields := range map[string][]byte{"an empty map": {0x80}, "nil": {0xc0}, "an empty array": {0x90}, "a fuller map": asMap([]sent{{name: "x", raw: texts("y")}}, true),
			"a fuller array": texts("x", "y")} {
			if got, err := DecodeMessage(append(append([]byte{0x81}, name...), fields...)); err != nil || !cmp.Equal(want, got) {
				t.Errorf("%T with %s: %+v, %v", want, form, got, err)
			}
		}
		if got, err := DecodeMessage(name); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%T as a string: %+v, %v", want, got, err)
		}
	}
}

// missesRequired leaves out one required field after the other.
func missesRequired(t *testing.T, name string, fields []sent) {
	t.Helper()
	for i, f := range fields {
		if f.optional {
			continue
		}
		rest := append(append([]sent{}, fields[:i]...), fields[i+1:]...)
		if got, err := DecodeMessage(append(append(pack.AppendMapHeader(nil, 1), text(name)...), asMap(rest, true)...)); err == nil {
			t.Errorf("%s without %s is read as %+v", name, f.name, got)
		}
	}
}

func chosen(fields []sent, optional bool) (some []sent) {
	for _, f := range fields {
		if optional || !f.optional {
			some = append(some, f)
		}
	}
	return some
}

func asMap(fields []sent, optional bool) []byte {
	fields = chosen(fields, optional)
	b := pack.AppendMapHeader(nil, len(fields))
	for _, f := range fields {
		b = append(pack.AppendString(b, f.name), f.raw...)
	}
	return b
}

func asArray(fields []sent, optional bool) []byte {
	fields = chosen(fields, optional)
	b := pack.AppendArrayHeader(nil, len(fields))
	for _, f := range fields {
		b = append(b, f.raw...)
	}
	return b
}
