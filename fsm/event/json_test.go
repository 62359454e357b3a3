package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestJSONIsLossless: the flat form gives back the same bytes, for every emitted type.
func TestJSONIsLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEnvelope(t)
		checkLossless(t, e)
	})
}

func checkLossless(t interface{ Fatalf(string, ...any) }, e *Envelope) {
	want, err := AppendEnvelope(nil, e)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	js, err := JSON(e)
	if err != nil {
		t.Fatalf("as JSON: %v", err)
	}
	if !json.Valid(js) {
		t.Fatalf("not JSON: %s", js)
	}
	back, err := FromJSON(js)
	if err != nil {
		t.Fatalf("%v: %s", err, js)
	}
	got, err := AppendEnvelope(nil, back)
	if err != nil {
		t.Fatalf("encode again: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s\nis %x\nwas %x", js, got, want)
	}
}

// TestJSONForm: the shape that the catalogue shows.
func TestJSONForm(t *testing.T) {
	e := &Envelope{Seq: 17, RaftIndex: 20, Type: TypeNodeCrashed, Time: 1792290000123456, Cause: 12, Body: NodeCrashed{NodeID: "node-1", AgentID: "agent-1"}}
	js, err := JSON(e)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(js, &m); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"seq": 17.0, "event_type": "node_crashed", "node_id": "node-1", "agent_id": "agent-1", "exit_code": nil, "signal": "", "oom": false,
		"stderr_tail": "", "start": 0.0, "timestamp": "2026-10-18T02:20:00.123456Z", "cause": 12.0, "actor": nil, "request_id": nil,
		"raft_index": 20.0, "class": "L", "chain": strings.Repeat("0", 64),
	}
	for k, v := range want {
		if got, ok := m[k]; !ok || got != v {
			t.Errorf("%s: %v, want %v", k, got, v)
		}
	}
	if len(m) != len(want) {
		t.Errorf("%d keys, want %d: %s", len(m), len(want), js)
	}
}

// TestJSONByHand: a history written by hand has what it has.
func TestJSONByHand(t *testing.T) {
	e, err := FromJSON([]byte(`{"seq": 3, "event_type":"agent_offline","agent_id":"agent-1","timestamp":"2026-10-18T04:20:00+02:00","last_seen":"2026-10-18T02:19:30Z","mood":"bad"}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Seq != 3 || e.Time != 1792290000000000 || e.Body != (AgentOffline{"agent-1", 1792289970000000}) {
		t.Errorf("%+v", e)
	}
	for name, js := range map[string]string{
		"not JSON":        `{`,
		"a list":          `[]`,
		"no type":         `{"seq":1}`,
		"unknown type":    `{"seq":1,"event_type":"agent_sneezed"}`,
		"type not built":  `{"seq":1,"event_type":"backup_cut"}`,
		"fractional seq":  `{"seq":1.5,"event_type":"master_left"}`,
		"negative seq":    `{"seq":-1,"event_type":"master_left"}`,
		"text for number": `{"seq":1,"event_type":"leader_elected","term":"x"}`,
		"wide number":     `{"seq":1,"event_type":"shard_map_created","shards":4294967296}`,
		"short hash":      `{"seq":1,"event_type":"master_left","chain":"ab"}`,
		"bad request id":  `{"seq":1,"event_type":"master_left","request_id":"zz"}`,
		"bad time":        `{"seq":1,"event_type":"master_left","timestamp":"yesterday"}`,
		"list for text":   `{"seq":1,"event_type":"master_left","master_id":["m"]}`,
	} {
		if _, err := FromJSON([]byte(js)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	if _, err := FromJSON(bytes.Repeat([]byte(" "), maxJSON+1)); !errors.Is(err, &Error{Kind: KindTooLarge}) {
		t.Errorf("too large: %v", err)
	}
}

// TestJSONRefuses what it could not give back.
func TestJSONRefuses(t *testing.T) {
	for name, b := range map[string]Body{
		"not UTF-8": MasterLeft{"\xff"},
		"NaN":       AgentDegraded{"a", math.NaN()},
		"infinite":  AgentDegraded{"a", math.Inf(1)},
		"year":      AgentOffline{"a", math.MaxInt64},
	} {
		if js, err := JSON(envelopeOf(b)); err == nil {
			t.Errorf("%s: %s", name, js)
		}
		if Validate(b) == nil {
			t.Errorf("%s: valid", name)
		}
	}
	label := AgentRegistered{AgentID: "a", Labels: map[string]string{"k": "\xff"}}
	if Validate(label) == nil {
		t.Error("a label that is not UTF-8 is valid")
	}
	report := AgentHeartbeat{AgentID: "a", Nodes: []NodeReport{{Status: "\xff"}}}
	if Validate(report) == nil {
		t.Error("a report that is not UTF-8 is valid")
	}
	if _, err := JSON(&Envelope{Type: TypeMasterLeft}); err == nil {
		t.Error("no body is JSON")
	}
}

// TestJSONNames: no body's field has a name that the envelope takes, and none has the name of another.
func TestJSONNames(t *testing.T) {
	taken := []string{keySeq, keyType, keyTime, keyCause, keyActor, keyRequestID, keyRaftIndex, keyClass, keyChain}
	for _, b := range samples() {
		names := map[string]bool{}
		for _, k := range taken {
			names[k] = true
		}
		v := reflect.TypeOf(b)
		for i, f := range fieldsOf(v) {
			if f.key == "" || names[f.key] {
				t.Errorf("%s.%s: the name %q is empty or taken", v.Name(), v.Field(i).Name, f.key)
			}
			names[f.key] = true
		}
	}
}

// TestFlatFields: what event storage finds an event by is what stands in its JSON.
func TestFlatFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := Flatten(anyEnvelope(t))
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			AgentID string `json:"agent_id"`
			NodeID  string `json:"node_id"`
			ShardID string `json:"shard_id"`
			TxnID   string `json:"txn_id"`
		}
		if err := json.Unmarshal(f.JSON, &want); err != nil {
			t.Fatal(err)
		}
		if f.AgentID != want.AgentID || f.NodeID != want.NodeID || f.ShardID != want.ShardID || f.TxnID != want.TxnID {
			t.Fatalf("%+v of %s", want, f.JSON)
		}
	})
}

func TestClean(t *testing.T) {
	long := strings.Repeat("é", MaxStderrTail)
	got := Clean(NodeCrashed{StderrTail: "\xff" + long + "!", Signal: "\xfe"}).(NodeCrashed)
	if len(got.StderrTail) > MaxStderrTail || !strings.HasSuffix(got.StderrTail, "é!") || got.Signal != replacement {
		t.Errorf("%d bytes, signal %q", len(got.StderrTail), got.Signal)
	}
	for _, b := range []Body{SpawnFailed{Error: "\xff" + long}, StopFailed{Error: "\xff" + long}, AgentUnregistered{Reason: "\xff" + long}, TxnAborted{Reason: "\xff" + long}, got} {
		c := Clean(b)
		if err := Validate(c); err != nil {
			t.Errorf("%s: %v", b.Type(), err)
		}
		if raw, err := AppendBody(nil, c); err != nil || len(raw) > maxText+100 {
			t.Errorf("%s: %d bytes, %v", b.Type(), len(raw), err)
		}
	}
	if id := Clean(MasterLeft{"\xff"}); Validate(id) == nil {
		t.Error("an id was changed")
	}
}
