package transport

import (
	"encoding/base64"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestSecondsTellMicrosApart(t *testing.T) {
	const year2242 = int64(1) << 33 * 1_000_000
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(-year2242+1, year2242-1).Draw(t, "µs")
		if got := Micros(Seconds(us)); got != us {
			t.Fatalf("%d µs come back as %d", us, got)
		}
	})
	for seconds, want := range map[float64]int64{1e300: math.MaxInt64, -1e300: math.MinInt64, 1.5: 1_500_000, -0.25: -250_000} {
		if got := Micros(seconds); got != want {
			t.Errorf("%v s are %d µs, want %d", seconds, got, want)
		}
	}
}

func FuzzPlace(f *testing.F) {
	q := &QueryByMetadata{Tags: []string{"t"}}
	f.Add(EncodeCursor(q, Place{Created: 5, ID: "a"}), "t")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 40)), "")
	f.Add("AgAAAAAAAAAFYQ\r\nAAAA", "t")
	f.Fuzz(func(t *testing.T, cursor, tag string) {
		q := &QueryByMetadata{Tags: []string{tag}, Cursor: cursor}
		place, err := DecodeCursor(q)
		if err != nil {
			wantInvalid(t, err)
			return
		}
		if place == nil {
			if cursor != "" {
				t.Fatalf("%q is no cursor and no error", cursor)
			}
			return
		}
		if again := EncodeCursor(q, *place); again != cursor {
			t.Fatalf("cursor %q is %+v, which is written %q", cursor, *place, again)
		}
	})
}

func wantInvalid(t *testing.T, err error) {
	t.Helper()
	if e, ok := err.(*event.Error); !ok || e.Kind != event.KindInvalid {
		t.Fatalf("error %v", err)
	}
}
