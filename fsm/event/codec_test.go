package event

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/internal/pack"
	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; only for a type that was never released")

// TestGolden holds the bytes of every emitted type: an old log, feed and event storage must stay readable.
func TestGolden(t *testing.T) {
	for _, body := range samples() {
		t.Run(body.Type().String(), func(t *testing.T) {
			e := envelopeOf(body)
			bin, err := Seal(nil, Chain{0xff}, e)
			if err != nil {
				t.Fatal(err)
			}
			js, err := JSON(e)
			if err != nil {
				t.Fatal(err)
			}
			info := Info(e.Type)
			got := fmt.Sprintf("code     %d\nclass    %s\nentity   %s\ntext     %s\nbytes    %s\njson     %s\n",
				e.Type, info.Class, strings.Join(info.Entity(body), " "), info.Describe(body), hex.EncodeToString(bin), js)
			path := filepath.Join("testdata", info.Name+".golden")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			back, err := DecodeEnvelope(bin)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%+v", flat(back)) != fmt.Sprintf("%+v", flat(e)) {
				t.Errorf("decoded\n%+v\nwant\n%+v", back, e)
			}
			head, err := DecodeHead(bin)
			if back.Body = nil; err != nil || *head != *back {
				t.Errorf("the head is\n%+v, %v\nwant\n%+v", head, err, back)
			}
		})
	}
}

// flat replaces what prints as an address.
func flat(e *Envelope) Envelope {
	c := *e
	if b, ok := c.Body.(NodeCrashed); ok && b.ExitCode != nil {
		c.Actor += fmt.Sprint(*b.ExitCode)
		b.ExitCode = nil
		c.Body = b
	}
	return c
}

// TestGoldenComplete: each emitted type has a sample and a golden file, and each golden file a type.
func TestGoldenComplete(t *testing.T) {
	have := map[Type]bool{}
	for _, b := range samples() {
		have[b.Type()] = true
	}
	for _, typ := range Types() {
		if Info(typ).Emitted != have[typ] {
			t.Errorf("%s: emitted %v, sample %v", typ, Info(typ).Emitted, have[typ])
		}
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(have) {
		t.Errorf("%d golden files for %d emitted types", len(files), len(have))
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEnvelope(t)
		b, err := AppendEnvelope([]byte("before"), e)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatal("what was before is gone")
		}
		b = b[len("before"):]
		back, err := DecodeEnvelope(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := AppendEnvelope(nil, back)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, again) {
			t.Fatalf("%x, again %x", b, again)
		}
	})
}

func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCommand(t)
		b, err := AppendCommand(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCommand(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := AppendCommand(nil, back)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, again) {
			t.Fatalf("%x, again %x", b, again)
		}
	})
}

// TestOtherVersions: a shorter array is of an older writer, a longer one of a newer.
func TestOtherVersions(t *testing.T) {
	older := pack.AppendArrayHeader(nil, 1)
	older = pack.AppendString(older, "node-1")
	b, err := DecodeBody(TypeNodeCrashed, older)
	if err != nil {
		t.Fatal(err)
	}
	if c := b.(NodeCrashed); c.NodeID != "node-1" || c.ExitCode != nil || c.Start != 0 {
		t.Errorf("older: %+v", c)
	}
	newer := pack.AppendArrayHeader(nil, 3)
	newer = pack.AppendString(pack.AppendString(newer, "node-1"), "agent-1")
	newer = pack.AppendArrayHeader(newer, 1)
	newer = pack.AppendUint(newer, 5)
	if b, err = DecodeBody(TypeStopRequested, newer); err != nil {
		t.Fatal(err)
	}
	if b != (StopRequested{"node-1", "agent-1"}) {
		t.Errorf("newer: %+v", b)
	}
}

func TestRefusedBytes(t *testing.T) {
	good, err := AppendEnvelope(nil, envelopeOf(MasterLeft{"master-1"}))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":      {},
		"cut":        good[:len(good)-1],
		"longer":     append(bytes.Clone(good), 0),
		"not array":  {0x01},
		"no fields":  {0x90},
		"type 60000": bytes.Replace(good, []byte{0xcd, 301 >> 8, 301 & 0xff}, []byte{0xcd, 0xea, 0x60}, 1),
	} {
		if _, err := DecodeEnvelope(b); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	if _, err := DecodeBody(TypeBackupCut, []byte{0x90}); !errors.Is(err, &Error{Kind: KindUnsupported}) {
		t.Errorf("a type without a body: %v", err)
	}
}

func TestLimits(t *testing.T) {
	big := SettingChanged{Key: "k", Value: strings.Repeat("x", MaxBody)}
	if _, err := AppendBody(nil, big); !errors.Is(err, &Error{Kind: KindTooLarge}) {
		t.Errorf("append: %v", err)
	}
	raw, err := pack.AppendArray(nil, big)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeBody(TypeSettingChanged, raw); !errors.Is(err, &Error{Kind: KindTooLarge}) {
		t.Errorf("decode: %v", err)
	}
	if _, err := DecodeCommand(make([]byte, MaxCommand+1)); !errors.Is(err, &Error{Kind: KindTooLarge}) {
		t.Errorf("command: %v", err)
	}
	c := NewCommand(strings.Repeat("x", maxActor+1), MasterLeft{"master-1"})
	if _, err := AppendCommand(nil, c); !errors.Is(err, &Error{Kind: KindInvalid}) {
		t.Errorf("actor: %v", err)
	}
	wrong := &Envelope{Type: TypeMasterLeft, Body: SinkRemoved{"s"}}
	if _, err := AppendEnvelope(nil, wrong); err == nil {
		t.Error("a body of another type was written")
	}
}

func TestChain(t *testing.T) {
	var prev Chain
	var records [][]byte
	for i, body := range samples() {
		e := envelopeOf(body)
		e.Seq = uint64(i + 1)
		b, err := Seal(nil, prev, e)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(prev, e); err != nil {
			t.Fatal(err)
		}
		h, err := HashRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if NextChain(prev, h) != e.Chain {
			t.Fatalf("%s: the hash of the bytes is another one", e.Type)
		}
		if plain, err := AppendEnvelope(nil, e); err != nil || !bytes.Equal(plain, b) {
			t.Fatalf("%s: Seal wrote %x, AppendEnvelope %x, %v", e.Type, b, plain, err)
		}
		prev, records = e.Chain, append(records, b)
	}
	for i, b := range records { // no byte of an event can change
		for at := range b {
			bad := bytes.Clone(b)
			bad[at] ^= 0x40
			if e, err := DecodeEnvelope(bad); err == nil {
				if h, err := HashRecord(bad); err == nil && NextChain(chainBefore(t, records, i), h) == e.Chain {
					t.Fatalf("event %d: byte %d can be changed", i+1, at)
				}
			}
		}
	}
	if _, err := HashRecord(nil); err == nil {
		t.Error("nothing has a hash")
	}
}

func chainBefore(t *testing.T, records [][]byte, i int) Chain {
	t.Helper()
	if i == 0 {
		return Chain{}
	}
	e, err := DecodeEnvelope(records[i-1])
	if err != nil {
		t.Fatal(err)
	}
	return e.Chain
}
