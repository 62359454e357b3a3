package event

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

func validText(s string) bool { return utf8.ValidString(s) }

// What decodes is written again in a form that decodes to the same.

func FuzzDecodeEnvelope(f *testing.F) {
	for _, body := range samples() {
		if b, err := AppendEnvelope(nil, envelopeOf(body)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEnvelope(b)
		if err != nil {
			return
		}
		once, err := AppendEnvelope(nil, e)
		if err != nil {
			return // a body that grew over the limit: its missing fields are written
		}
		e, err = DecodeEnvelope(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := AppendEnvelope(nil, e)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %x, then %x", err, once, twice)
		}
		if Validate(e.Body) == nil && validateTime(e.Time) == nil && validText(e.Actor) {
			checkLossless(t, e)
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	for _, body := range samples() {
		if b, err := AppendCommand(nil, NewCommand("master-1", body)); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			return
		}
		once, err := AppendCommand(nil, c)
		if err != nil {
			return
		}
		c, err = DecodeCommand(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := AppendCommand(nil, c); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %x, then %x", err, once, twice)
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	for _, body := range samples() {
		if b, err := AppendBody(nil, body); err == nil {
			f.Add(uint16(body.Type()), b)
		}
	}
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		body, err := DecodeBody(Type(typ), b)
		if err != nil {
			return
		}
		if body.Type() != Type(typ) {
			t.Fatalf("type %d decoded as %d", typ, body.Type())
		}
		body = Clean(body)
		_ = Info(body.Type()).Describe(body)
		_ = Info(body.Type()).Entity(body)
		once, err := AppendBody(nil, body)
		if err != nil {
			return
		}
		if body, err = DecodeBody(Type(typ), once); err != nil {
			t.Fatal(err)
		}
		if twice, err := AppendBody(nil, body); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %x, then %x", err, once, twice)
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	for _, body := range samples() {
		if b, err := JSON(envelopeOf(body)); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte(`{"seq":1,"event_type":"node_crashed","exit_code":3,"labels":{"a":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := FromJSON(b)
		if err != nil {
			return
		}
		if len(e.Actor) > maxActor {
			return
		}
		if _, err := AppendEnvelope(nil, e); err != nil {
			return
		}
		if Validate(e.Body) == nil && validateTime(e.Time) == nil && validText(e.Actor) {
			checkLossless(t, e)
		}
	})
}

// FuzzFilter: whatever a watcher asks for and whatever is stored, a filter answers, and one that passes Validate chooses no more
// than one that asks for less.
func FuzzFilter(f *testing.F) {
	for i, body := range samples() {
		e := &Envelope{Seq: 1, Type: body.Type(), Time: 1, Body: body}
		b, err := Seal(nil, Chain{}, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(body.Type()), "LD", entityKindNames[i%len(entityKindNames)], "node-1", b)
	}
	f.Add(uint16(9999), "\x00", "", "", []byte{0xc1})
	f.Fuzz(func(t *testing.T, typ uint16, classes, kind, entity string, envelope []byte) {
		full := Filter{Types: []Type{Type(typ)}, Classes: classes, Kinds: []string{kind}, Entities: []string{entity}}
		if full.Validate() != nil {
			return
		}
		less := Filter{Classes: classes, Entities: []string{entity}}
		for _, at := range []Type{Type(typ), TypeNodeCrashed} {
			chosen, err := full.Match(at, envelope)
			wider, err2 := less.Match(at, envelope)
			if err == nil && err2 == nil && chosen && !wider {
				t.Fatalf("%+v chooses what %+v does not", full, less)
			}
		}
	})
}
