package transport

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

var update = flag.Bool("update", false, "write the golden files anew")

// parts are the structs of the message files that are only parts of messages.
var parts = []string{"Metadata", "Any", "Op", "Neighbor", "ConceptItem", "VectorResult", "AgentRecord", "NodeRecord", "ShardHealth", "Peer", "NodeAssignment", "StateDigest",
	"LearnOptions", "SemanticFilter", "SemanticPath", "SemanticConcept", "temporalForm", "temporalEnds", "temporalSpan", "contradictionsForm", "contradictionsAround",
	"Classified", "Statement", "Edge", "CheckpointFile", "OpResult", "AssociationID",
	"EmittedEvent", "Answered", "Reading", "Read", "Contract", "FeedOutbox", "FeedSink", "ShardRead", "MissingShard",
	"PreparedTxn", "HeldTxn", "DecidedTxn"}

// TestTableIsComplete: every struct of the message files is a variant or a known part of one.
func TestTableIsComplete(t *testing.T) {
	files, err := filepath.Glob("messages_*.go")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	declared := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.TypeSpec); ok {
				if _, ok := s.Type.(*ast.StructType); ok {
					declared[s.Name.Name] = true
				}
			}
			return true
		})
	}
	for name := range declared {
		if _, ok := variants.byName[name]; ok == slices.Contains(parts, name) {
			t.Errorf("%s must be either in the variant table or among the parts", name)
		}
	}
	for name := range variants.byName {
		if !declared[name] && name != errorVariant {
			t.Errorf("variant %s is in no message file", name)
		}
	}
}

// sample fills every field of a value with something that is not zero, always the same.
func sample(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) / 2)
	case reflect.String:
		v.SetString(fmt.Sprintf("s%d", *n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		sample(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			sample(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			sample(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			sample(key, n)
			sample(val, n)
			v.SetMapIndex(key, val)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[Any]() {
			v.Set(reflect.ValueOf(Any{Value: &QueryConcept{ConceptID: "inside"}}))
			return
		}
		for i := range v.NumField() {
			sample(v.Field(i), n)
		}
	}
}

func sampleOf(v *variant) any {
	msg, n := reflect.New(v.typ), 0
	sample(msg.Elem(), &n)
	return msg.Interface()
}

func sortedVariants() []*variant {
	var all []*variant
	for _, v := range variants.byName {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *variant) int { return strings.Compare(a.name, b.name) })
	return all
}

// TestGoldenMessages pins the bytes of every message: whoever changes them breaks what is deployed.
func TestGoldenMessages(t *testing.T) {
	var got bytes.Buffer
	for _, v := range sortedVariants() {
		b, err := EncodeMessage(nil, sampleOf(v))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %x\n", v.name, b)
	}
	golden := filepath.Join("testdata", "messages.golden")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(want)); s.Scan(); {
		name, hexa, _ := strings.Cut(s.Text(), " ")
		wants[name] = hexa
	}
	for _, line := range strings.Split(strings.TrimSpace(got.String()), "\n") {
		name, hexa, _ := strings.Cut(line, " ")
		if wants[name] != hexa {
			t.Errorf("%s is\n%s\nwant\n%s\n(run with -update when that is meant)", name, hexa, wants[name])
		}
	}
}

// TestGoldenFrames are the bytes that the protocol's page prints, and their kin.
func TestGoldenFrames(t *testing.T) {
	tests := []struct {
		msg any
		hex string
	}{
		{QueryConcept{ConceptID: "aa"}, "0000001d 81 ac" + hexa("QueryConcept") + "81 aa" + hexa("concept_id") + "a2" + hexa("aa")},
		{&GetStats{}, "00000009 a8" + hexa("GetStats")},
		{&ListAgents{}, "0000000b aa" + hexa("ListAgents")}, // as before it had fields
		{LearnConceptOk{Sequence: 42}, "00000012 81 ae" + hexa("LearnConceptOk") + "91 2a"},
		{&LearnAssociationOk{Sequence: 300}, "00000018 81 b2" + hexa("LearnAssociationOk") + "91 cd012c"},
		{FlushOk{}, "00000008 a7" + hexa("FlushOk")},
		{QueryConceptOk{}, "00000055 81 ae" + hexa("QueryConceptOk") + "86 a5" + hexa("found") + "c2 aa" + hexa("concept_id") + "a0 a7" + hexa("content") +
			"a0 a8" + hexa("strength") + "ca00000000 aa" + hexa("confidence") + "ca00000000 a8" + hexa("metadata") + "c0"},
		{VectorSearch{QueryVector: []float32{1}, K: 2, EFSearch: 64}, "00000049 81 ac" + hexa("VectorSearch") + "86 ac" + hexa("query_vector") + "91 ca3f800000 a1" +
			hexa("k") + "02 a9" + hexa("ef_search") + "40 aa" + hexa("attributes") + "80 a4" + hexa("tags") + "90 a5" + hexa("exact") + "c2"},
		{VectorSearchOk{Results: []VectorResult{{"aa", 0.5}}}, "00000023 81 ae" + hexa("VectorSearchOk") + "81 a7" + hexa("results") + "91 92 a2" + hexa("aa") + "ca3f000000"},
		{GetNeighborsOk{}, "0000001f 81 ae" + hexa("GetNeighborsOk") + "81 ac" + hexa("neighbor_ids") + "90"},
	}
	for _, tt := range tests {
		want := strings.ReplaceAll(tt.hex, " ", "")
		if got := hex.EncodeToString(frameOf(t, tt.msg)); got != want {
			t.Errorf("%T is\n%s, want\n%s", tt.msg, got, want)
		}
	}
}

func hexa(s string) string { return hex.EncodeToString([]byte(s)) }

func TestEveryMessageReadsBack(t *testing.T) {
	for _, v := range sortedVariants() {
		msg := sampleOf(v)
		byName, err := EncodeMessage(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := pack.AppendArray(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		byPosition := append(pack.AppendString(pack.AppendMapHeader(nil, 1), v.name), fields...)
		for _, b := range [][]byte{byName, byPosition} {
			got, err := DecodeMessage(b)
			if err != nil {
				t.Fatalf("%s: %v", v.name, err)
			}
			if d := cmp.Diff(msg, got); d != "" {
				t.Errorf("%s: %s", v.name, d)
			}
		}
		if asValue, err := EncodeMessage(nil, reflect.ValueOf(msg).Elem().Interface()); v.name != errorVariant && (err != nil || !bytes.Equal(asValue, byName)) {
			t.Errorf("%s as a value: %x, %v", v.name, asValue, err)
		}
	}
}

func TestWhatClientsInTheFieldSend(t *testing.T) {
	str := func(s string) string { return hexa(string(pack.AppendString(nil, s))) }
	tests := []struct {
		name, hex string
		want      any
	}{
		{"unit as string", str("GetStats"), &GetStats{}},
		{"unit with empty map", "81" + str("GetStats") + "80", &GetStats{}},
		{"unit with nil", "81" + str("GetStats") + "c0", &GetStats{}},
		{"read with nil", "81" + str("ListAgents") + "c0", &ListAgents{}},
		{"read with some fields", "81" + str("ListAgents") + "81" + str("consistency") + str("stale"), &ListAgents{Reading{Consistency: Stale}}},
		{"unit with empty array", "81" + str("GetStats") + "90", &GetStats{}},
		{"variant as binary", "c408" + hexa("GetStats"), &GetStats{}},
		{"by position, metadata left out", "81" + str("LearnConcept") + "95" + str("a") + str("text") + "90 01 cb3fe0000000000000",
			&LearnConcept{ConceptID: "a", Content: "text", Embedding: []float32{}, Strength: 1, Confidence: 0.5}},
		{"by position, nested by position", "81" + str("LearnConcept") + "96" + str("a") + str("") + "c0 01 01 92 81" + str("k") + str("v") + "91" + str("t"),
			&LearnConcept{ConceptID: "a", Strength: 1, Confidence: 1, Metadata: &Metadata{Attributes: map[string]string{"k": "v"}, Tags: []string{"t"}}}},
		{"by name with extra fields", "81" + str("FindPath") + "84" + str("x") + "93010203" + str("max_depth") + "d005" + str("start_id") + str("a") + str("end_id") + str("b"),
			&FindPath{StartID: "a", EndID: "b", MaxDepth: 5}},
		{"a search by position", "81" + str("VectorSearch") + "93 92 01 cb3fe0000000000000 0a ccc8", &VectorSearch{QueryVector: []float32{1, 0.5}, K: 10, EFSearch: 200}},
		{"a search by name", "81" + str("VectorSearch") + "83" + str("k") + "05" + str("query_vector") + "91ca3f800000" + str("ef_search") + "00",
			&VectorSearch{QueryVector: []float32{1}, K: 5}},
		{"plain error", "81" + str("Error") + "81" + str("message") + str("no"), &event.Error{Kind: event.KindInternal, Message: "no"}},
	}
	for _, tt := range tests {
		b, err := hex.DecodeString(strings.ReplaceAll(tt.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessage(b)
		if d := cmp.Diff(tt.want, got); err != nil || d != "" {
			t.Errorf("%s: %v, %s", tt.name, err, d)
		}
	}
}

func TestUndecodableMessages(t *testing.T) {
	str := func(s string) []byte { return pack.AppendString(nil, s) }
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	deep := cat([]byte{0x81}, str("GetStats"), bytes.Repeat([]byte{0x91}, 32), []byte{0xc0})
	tests := []struct {
		name string
		b    []byte
		kind event.Kind
		want string
	}{
		{"empty", nil, event.KindInvalid, "empty"},
		{"two variants", cat([]byte{0x82}, str("GetStats"), []byte{0x80}, str("Flush"), []byte{0x80}), event.KindInvalid, "one key"},
		{"no variant", []byte{0x80}, event.KindInvalid, "one key"},
		{"a number", []byte{0x05}, event.KindInvalid, "got an integer"},
		{"a number as variant", []byte{0x81, 0x05, 0x80}, event.KindInvalid, "variant"},
		{"unknown", cat([]byte{0x81}, str("DropEverything"), []byte{0x80}), event.KindUnsupported, "DropEverything"},
		{"unknown unit", str("DropEverything"), event.KindUnsupported, "DropEverything"},
		{"a part is no message", cat([]byte{0x81}, str("Metadata"), []byte{0x80}), event.KindUnsupported, "Metadata"},
		{"missing field", cat([]byte{0x81}, str("QueryConcept"), []byte{0x80}), event.KindInvalid, `"concept_id" is missing`},
		{"bare string with fields", str("QueryConcept"), event.KindInvalid, `"concept_id" is missing`},
		{"nil for fields", cat([]byte{0x81}, str("QueryConcept"), []byte{0xc0}), event.KindInvalid, "want a map"},
		{"too deep", deep, event.KindInvalid, "deeper than 32"},
		{"beyond the frame", cat([]byte{0x81}, str("QueryConcept"), []byte{0x91, 0xdb, 0xff, 0xff, 0xff, 0xff}), event.KindInvalid, "ends inside"},
		{"bytes behind", cat(str("GetStats"), []byte{0}), event.KindInvalid, "behind"},
		{"unknown inside a batch", cat([]byte{0x81}, str("Batch"), []byte{0x91, 0x91}, str("Nope")), event.KindUnsupported, "Nope"},
	}
	for _, tt := range tests {
		msg, err := DecodeMessage(tt.b)
		var e *event.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %s with %q", tt.name, msg, err, tt.kind, tt.want)
		}
	}
	if _, err := EncodeMessage(nil, struct{}{}); !errors.Is(err, &event.Error{Kind: event.KindInternal}) {
		t.Errorf("a struct that is no message: %v", err)
	}
	if _, err := EncodeMessage(nil, nil); err == nil {
		t.Error("nil is encoded")
	}
}

func TestErrorsPlainAndWhole(t *testing.T) {
	e := &event.Error{Kind: event.KindNotLeader, Op: "write", Message: "ask another", Leader: "node-2"}
	plain, err := appendError(nil, e, false)
	if want := "81a5" + hexa("Error") + "81a7" + hexa("message") + "b2" + hexa("write: ask another"); err != nil || hex.EncodeToString(plain) != want {
		t.Errorf("plain: %x, %v", plain, err)
	}
	whole, err := appendError(nil, e, true)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeMessage(whole); err != nil || !cmp.Equal(got, any(e), cmpopts.EquateEmpty()) {
		t.Errorf("whole: %+v, %v", got, err)
	}
}

func TestRetryable(t *testing.T) {
	id := event.RequestID{1}
	tests := []struct {
		req         any
		only, again bool
	}{
		{&QueryConcept{}, true, true}, {QueryConcept{}, true, true}, {&LearnConcept{}, false, false}, {&Heartbeat{}, false, true},
		{&Txn{}, false, false}, {&Txn{RequestID: id}, false, true}, {Txn{RequestID: id}, false, true},
		{&Routed{Request: Any{&GetStats{}}}, true, true}, {Routed{Request: Any{&GetStats{}}}, true, true},
		{&Routed{Request: Any{&LearnConcept{}}}, false, false}, {&Routed{RequestID: id, Request: Any{&LearnConcept{}}}, false, true},
		{Routed{RequestID: id}, false, true}, {&Routed{Request: Any{&Prepare{}}}, false, true},
		{&Batch{Requests: []Any{{&GetStats{}}, {&QueryConcept{}}}}, true, true},
		{Batch{Requests: []Any{{&GetStats{}}, {&LearnConcept{}}}}, false, false}, {&Forward{}, false, false}, {struct{}{}, false, false},
		{&Propose{Type: event.TypeSettingChanged}, false, false}, {&Propose{Type: event.TypeSettingChanged, RequestID: id}, false, true},
		{&Propose{Type: event.TypeShardLeaderChanged}, false, true}, {Propose{Type: event.TypeSettingChanged}, false, false},
		{&RegisterAgent{}, false, false}, {&RegisterAgent{RequestID: id}, false, true}, {&UnregisterAgent{}, false, false},
	}
	for _, tt := range tests {
		if ReadOnly(tt.req) != tt.only || Retryable(tt.req) != tt.again {
			t.Errorf("%+v: read only %v, retryable %v", tt.req, ReadOnly(tt.req), Retryable(tt.req))
		}
	}
}

// TestRandomBytesNeverHarm complements the fuzz target with shapes near valid ones.
func TestRandomBytesNeverHarm(t *testing.T) {
	all := sortedVariants()
	rapid.Check(t, func(t *rapid.T) {
		b, err := EncodeMessage(nil, sampleOf(rapid.SampledFrom(all).Draw(t, "variant")))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		checkDecode(t, b[:rapid.IntRange(0, len(b)).Draw(t, "cut")])
	})
}

// checkDecode: what decodes can be encoded, and decodes to the same again.
func checkDecode(t interface{ Fatalf(string, ...any) }, b []byte) {
	msg, err := DecodeMessage(b)
	if err != nil {
		var e *event.Error
		if !errors.As(err, &e) || e.Message == "" {
			t.Fatalf("the error %v is no event.Error", err)
		}
		return
	}
	once, err := EncodeMessage(nil, msg)
	if err != nil {
		t.Fatalf("%v", err)
	}
	again, err := DecodeMessage(once)
	if err != nil {
		t.Fatalf("%v in %x", err, once)
	}
	twice, err := EncodeMessage(nil, again)
	if err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%x, %x, %v", once, twice, err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, v := range sortedVariants() {
		b, err := EncodeMessage(nil, sampleOf(v))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		fields, err := pack.AppendArray(nil, sampleOf(v))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(pack.AppendString(pack.AppendMapHeader(nil, 1), v.name), fields...))
	}
	for _, other := range []any{&FindTemporalChain{StartID: ptr("a"), EndID: ptr("b"), MaxDepth: ptr(uint32(3))}, &FindContradictions{Domain: ptr("legal")}} {
		b, err := EncodeMessage(nil, other) // the other of their two forms
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) { checkDecode(t, b) })
}
