package event

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"
)

// The names that the envelope takes in the flat JSON form; no body's field may have one of them.
const (
	keySeq       = "seq"
	keyType      = "event_type"
	keyTime      = "timestamp"
	keyCause     = "cause"
	keyActor     = "actor"
	keyRequestID = "request_id"
	keyRaftIndex = "raft_index"
	keyClass     = "class"
	keyChain     = "chain"
)

// timeLayout is RFC 3339 in UTC with microseconds, always of the same width.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// maxJSON bounds what FromJSON reads: a body of MaxBody whose every byte is escaped, and the envelope.
const maxJSON = 8*MaxBody + 8<<10

// JSON is the flat form that event storage keeps: the envelope's and the body's fields side by side. Ids are strings, times
// RFC 3339 with microseconds, request ids and hashes hexadecimal, what is absent is null. FromJSON gives the same envelope
// back, to the byte. Text that is not UTF-8 and numbers that JSON does not have are errors; the state machine accepts
// neither.
func JSON(e *Envelope) ([]byte, error) {
	f, err := Flatten(e)
	if err != nil {
		return nil, err
	}
	return f.JSON, nil
}

// Flat is an event's flat form, and those of its fields that event storage finds events by besides the envelope's; empty: it has none.
type Flat struct {
	JSON                            []byte
	AgentID, NodeID, ShardID, TxnID string
}

// Flatten makes the flat form.
func Flatten(e *Envelope) (*Flat, error) {
	if e.Body == nil || e.Body.Type() != e.Type {
		return nil, fmt.Errorf("event %d as JSON: the body is not a %s", e.Seq, e.Type)
	}
	info := Info(e.Type)
	flat := &Flat{}
	w := jsonWriter{b: make([]byte, 0, 768), flat: flat}
	w.b = append(w.b, '{')
	w.key(keySeq)
	w.uint(e.Seq)
	w.key(keyType)
	w.string(info.Name)
	w.fields(reflect.ValueOf(e.Body))
	w.key(keyTime)
	w.time(e.Time)
	w.key(keyCause)
	w.orNull(e.Cause == 0, func() { w.uint(e.Cause) })
	w.key(keyActor)
	w.orNull(e.Actor == "", func() { w.string(e.Actor) })
	w.key(keyRequestID)
	w.orNull(e.RequestID.IsZero(), func() { w.string(e.RequestID.String()) })
	w.key(keyRaftIndex)
	w.uint(e.RaftIndex)
	w.key(keyClass)
	w.string(info.Class.String())
	w.key(keyChain)
	w.string(hex.EncodeToString(e.Chain[:]))
	w.b = append(w.b, '}')
	if w.err != nil {
		return nil, fmt.Errorf("event %d (%s) as JSON: %w", e.Seq, e.Type, w.err)
	}
	flat.JSON = w.b
	return flat, nil
}

// FromJSON reads the flat form. A field that is missing is zero, one that is unknown is passed over: histories written by
// hand or by another version can be read. An event_type that is not emitted is an error.
func FromJSON(b []byte) (*Envelope, error) {
	if len(b) > maxJSON {
		return nil, &Error{Kind: KindTooLarge, Op: "read event", Message: fmt.Sprintf("%d bytes of JSON, want at most %d", len(b), maxJSON)}
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	e := &Envelope{}
	if err := e.fromFields(raw); err != nil {
		return nil, fmt.Errorf("read event %d: %w", e.Seq, err)
	}
	return e, nil
}

// jsonHead are the envelope's fields for the reader.
type jsonHead struct {
	Seq       uint64    `wire:"seq"`
	Type      string    `wire:"event_type"`
	Time      int64     `wire:"timestamp" form:"time"`
	Cause     uint64    `wire:"cause"`
	Actor     string    `wire:"actor"`
	RequestID RequestID `wire:"request_id"`
	RaftIndex uint64    `wire:"raft_index"`
	Chain     Chain     `wire:"chain"`
}

func (e *Envelope) fromFields(raw map[string]json.RawMessage) error {
	var head jsonHead
	if err := readFields(raw, reflect.ValueOf(&head).Elem()); err != nil {
		return err
	}
	e.Seq, e.RaftIndex, e.Time, e.Cause = head.Seq, head.RaftIndex, head.Time, head.Cause
	e.Actor, e.RequestID, e.Chain = head.Actor, head.RequestID, head.Chain
	t, ok := TypeByName(head.Type)
	if !ok || bodies[t] == nil {
		return fmt.Errorf("%s %q is not one that can be read", keyType, head.Type)
	}
	e.Type = t
	zero, err := DecodeBody(t, []byte{0x90}) // an empty array: all fields zero
	if err != nil {
		return err
	}
	body := reflect.New(reflect.TypeOf(zero)).Elem()
	if err := readFields(raw, body); err != nil {
		return err
	}
	e.Body = body.Interface().(Body)
	return nil
}

// FormatTime is a time as the flat form has it; micros is unix µs.
func FormatTime(micros int64) string {
	return time.UnixMicro(micros).UTC().Format(timeLayout)
}

func parseTime(s string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time like %s", s, timeLayout)
	}
	return t.UnixMicro(), nil
}

// jsonField is what the flat form knows of a struct's field.
type jsonField struct {
	key      string
	id, time bool // a number that is written as a string; unix µs that are written as a time
}

var jsonFields sync.Map // by reflect.Type: []jsonField, in the struct's order

// fieldsOf reads the tags of a struct, once.
func fieldsOf(t reflect.Type) []jsonField {
	if known, ok := jsonFields.Load(t); ok {
		return known.([]jsonField)
	}
	fields := make([]jsonField, t.NumField())
	for i := range fields {
		tag := t.Field(i).Tag
		fields[i] = jsonField{key: cmp.Or(tag.Get("json"), tag.Get("wire")), id: tag.Get("form") == "id", time: tag.Get("form") == "time"}
	}
	jsonFields.Store(t, fields)
	return fields
}

// number is the text of a JSON number, or of a string that holds one.
func number(raw json.RawMessage) string {
	if n := len(raw); n >= 2 && raw[0] == '"' && raw[n-1] == '"' {
		return string(raw[1 : n-1])
	}
	return string(raw)
}

func readUint(raw json.RawMessage, bits int) (uint64, error) {
	return strconv.ParseUint(number(raw), 10, bits)
}
