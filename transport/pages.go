package transport

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Place is where a page of QueryByMetadata or Scan ended: everything up to it is in this page or an earlier one. Concepts of
// all shards have one order, so one place says for every shard where its next page begins, also when a shard has been split
// meanwhile.
type Place struct {
	Created int64  // unix µs; of a Scan always 0
	ID      string // at most MaxID bytes
}

// Compare orders places as the pages of ascending order do.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Created, q.Created), strings.Compare(p.ID, q.ID))
}

// A cursor is version(1), created(8), id and a CRC-32C over these and over what the page was asked for, in URL-safe base64. It
// is opaque to clients; the check refuses one that was altered or that belongs to another question, which would
// silently skip rows.
const (
	placeVersion   = 2 // 1 is that of Neighbors
	placeOverhead  = 1 + 8 + 4
	maxPlaceCursor = (placeOverhead + MaxID) * 2 // characters: more than base64 makes of the longest
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Paged is a question that is answered in pages.
type Paged interface {
	// cursor is the place to go on from, "" for the beginning.
	cursor() string
	// asked is the question without limit and cursor, as bytes that differ when questions do.
	asked() []byte
}

func (q *QueryByMetadata) cursor() string { return q.Cursor }
func (q *Scan) cursor() string            { return q.Cursor }

func (q *Scan) asked() []byte { return appendText([]byte("scan"), q.Prefix) }

func (q *QueryByMetadata) asked() []byte {
	b := []byte("metadata")
	for _, k := range slices.Sorted(maps.Keys(q.Attributes)) {
		b = appendText(appendText(append(b, 'a'), k), q.Attributes[k])
	}
	for _, tag := range q.Tags {
		b = appendText(append(b, 't'), tag)
	}
	for _, bound := range []*float64{q.From, q.To} {
		b = append(b, '|')
		if bound != nil {
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(*bound))
		}
	}
	if q.Descending() {
		b = append(b, 'd')
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// Descending tells whether the newest come first.
func (q *QueryByMetadata) Descending() bool { return q.Order == "desc" }

// Between is the time of creation that is asked for, unix µs, the end excluded.
func (q *QueryByMetadata) Between() (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if q.From != nil {
		from = Micros(*q.From)
	}
	if q.To != nil {
		to = Micros(*q.To)
	}
	return from, to
}

// Micros is unix seconds as unix µs, to the nearest; of what Seconds gave it is the same µs again, until the year 2242. What
// is out of range is at its end.
func Micros(seconds float64) int64 {
	us := math.Round(seconds * 1e6)
	switch {
	case us >= math.MaxInt64:
		return math.MaxInt64
	case us <= math.MinInt64:
		return math.MinInt64
	}
	for _, near := range [3]int64{int64(us), int64(us) - 1, int64(us) + 1} { // the product is rounded too
		if Seconds(near) == seconds {
			return near
		}
	}
	return int64(us)
}

// Seconds is unix µs as unix seconds.
func Seconds(micros int64) float64 { return float64(micros) / 1e6 }

// EncodeCursor is the cursor of the page of q behind p.
func EncodeCursor(q Paged, p Place) string {
	b := make([]byte, 0, placeOverhead+len(p.ID))
	b = append(b, placeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Created))
	b = append(b, p.ID...)
	b = binary.BigEndian.AppendUint32(b, placeSum(b, q))
	return base64.RawURLEncoding.EncodeToString(b)
}

func placeSum(b []byte, q Paged) uint32 {
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, q.asked())
}

// DecodeCursor reads the cursor of a question; nil at its beginning. The error is an *event.Error of KindInvalid.
func DecodeCursor(q Paged) (*Place, error) { return PlaceOf(q, q.cursor()) }

// PlaceOf reads a cursor that a page of q gave; nil for none. The error is an *event.Error of KindInvalid.
func PlaceOf(q Paged, cursor string) (*Place, error) {
	place, refusal := placeOf(q, cursor)
	if refusal != nil {
		return nil, refusal
	}
	return place, nil
}

func placeOf(q Paged, cursor string) (*Place, *event.Error) {
	if cursor == "" {
		return nil, nil
	}
	refusal := invalid("the cursor is not one that this question's last page gave; begin again without a cursor")
	if len(cursor) > maxPlaceCursor || strings.ContainsAny(cursor, "\r\n") { // which the decoder would pass over
		return nil, refusal
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < placeOverhead || len(b) > placeOverhead+MaxID || b[0] != placeVersion {
		return nil, refusal
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if sum != placeSum(body, q) {
		return nil, refusal
	}
	return &Place{Created: int64(binary.BigEndian.Uint64(body[1:])), ID: string(body[9:])}, nil
}

// Size is about what an item takes in a reply, in bytes.
func (c *ConceptItem) Size() int {
	n := 128 + len(c.ConceptID) + len(c.Content)
	if c.Metadata != nil {
		for k, v := range c.Metadata.Attributes {
			n += 10 + len(k) + len(v)
		}
		for _, tag := range c.Metadata.Tags {
			n += 5 + len(tag)
		}
	}
	return n
}

func validateQuery(q *QueryByMetadata) *event.Error {
	if e := first(atMost("number of attributes", int64(len(q.Attributes)), MaxAttributes), atMost("number of tags", int64(len(q.Tags)), MaxTags),
		atMost("limit", int64(q.Limit), MaxPageLimit)); e != nil {
		return e
	}
	for field, bound := range map[string]*float64{"from": q.From, "to": q.To} {
		if bound != nil && *bound-*bound != 0 {
			return invalid("%s is %v: want a finite number", field, *bound)
		}
	}
	if q.Order != "" && q.Order != "asc" && q.Order != "desc" {
		return invalid("order is %.16q: want asc or desc", q.Order)
	}
	return validCursor(q)
}

func validateScan(q *Scan) *event.Error {
	if e := first(atMost("bytes of prefix", int64(len(q.Prefix)), MaxID), atMost("limit", int64(q.Limit), MaxPageLimit)); e != nil {
		return e
	}
	return validCursor(q)
}

func validCursor(q Paged) *event.Error {
	_, refusal := placeOf(q, q.cursor())
	return refusal
}
