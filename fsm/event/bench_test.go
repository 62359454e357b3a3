package event

import "testing"

// hot are the bodies that a busy grid encodes and decodes most; "all" is one of each type.
func hot() map[string][]Body {
	value := make([]byte, 256)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	return map[string][]Body{
		"setting":   {SettingChanged{"bench.1", string(value), 0}},
		"heartbeat": {AgentHeartbeat{"agent-1", 1, Load{0.25, 1024, 2048}, []NodeReport{{"node-1", "running", 77, "10.0.0.1:50051", 2}}}},
		"all":       samples(),
	}
}

// eachHot runs a benchmark on each set of bodies; per is called with one after the other.
func eachHot(b *testing.B, prepare func(b *testing.B, body Body) (per func() error)) {
	for _, name := range []string{"setting", "heartbeat", "all"} {
		b.Run(name, func(b *testing.B) {
			var todo []func() error
			for _, body := range hot()[name] {
				todo = append(todo, prepare(b, body))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := todo[i%len(todo)](); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchCommand(body Body) *Command {
	c := NewCommand("agent-1", body)
	c.RequestID, c.Issued = sampleID(3), 1792290000123456
	return c
}

func BenchmarkAppendCommand(b *testing.B) {
	var buf []byte
	eachHot(b, func(_ *testing.B, body Body) func() error {
		c := benchCommand(body)
		return func() (err error) {
			buf, err = AppendCommand(buf[:0], c)
			return err
		}
	})
}

func BenchmarkDecodeCommand(b *testing.B) {
	eachHot(b, func(b *testing.B, body Body) func() error {
		encoded, err := AppendCommand(nil, benchCommand(body))
		if err != nil {
			b.Fatal(err)
		}
		return func() error {
			_, err := DecodeCommand(encoded)
			return err
		}
	})
}

func benchEnvelope(body Body) *Envelope {
	return &Envelope{Seq: 1 << 20, RaftIndex: 1 << 18, Type: body.Type(), Time: 1792290000123456, Actor: "agent-1", RequestID: sampleID(3), Body: body}
}

func BenchmarkAppendEnvelope(b *testing.B) {
	var buf []byte
	eachHot(b, func(_ *testing.B, body Body) func() error {
		e := benchEnvelope(body)
		return func() (err error) {
			buf, err = AppendEnvelope(buf[:0], e)
			return err
		}
	})
}

func BenchmarkDecodeEnvelope(b *testing.B) {
	eachHot(b, func(b *testing.B, body Body) func() error {
		encoded, err := AppendEnvelope(nil, benchEnvelope(body))
		if err != nil {
			b.Fatal(err)
		}
		return func() error {
			_, err := DecodeEnvelope(encoded)
			return err
		}
	})
}

// BenchmarkJSON is the form in which event storage holds an event.
func BenchmarkJSON(b *testing.B) {
	eachHot(b, func(_ *testing.B, body Body) func() error {
		e := benchEnvelope(body)
		return func() error {
			_, err := JSON(e)
			return err
		}
	})
}
