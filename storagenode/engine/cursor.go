package engine

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// A cursor is where a page of Neighbors ended: version(1), side(1), order(12), and a CRC-32C over these and over what the
// page was asked for, in URL-safe base64. It is opaque to clients; the check refuses one that was altered or that belongs
// to another question, which would silently skip rows.
const (
	cursorVersion = 1
	cursorLen     = 2 + orderLen + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// place is one association in the order of a page.
type place struct {
	at   order
	side side
}

// before orders a page: by commit, and an association of a concept with itself first outgoing, then incoming.
func (p place) before(q place) bool {
	if p.at != q.at {
		return p.at.before(q.at)
	}
	return p.side < q.side
}

func encodeCursor(p place, q *transport.Neighbors) string {
	b := make([]byte, 0, cursorLen)
	b = append(b, cursorVersion, byte(p.side))
	b = p.at.append(b)
	b = binary.BigEndian.AppendUint32(b, cursorSum(b, q))
	return base64.RawURLEncoding.EncodeToString(b)
}

// cursorSum covers the cursor's content and the question without its limit, which may change between pages.
func cursorSum(b []byte, q *transport.Neighbors) uint32 {
	asked := append([]byte(q.ConceptID), idEnd)
	asked = append(append(asked, q.Direction...), idEnd)
	if q.Type != nil {
		asked = binary.BigEndian.AppendUint32(asked, *q.Type)
	}
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, asked)
}

// decodeCursor reads the cursor of a question.
func decodeCursor(q *transport.Neighbors) (place, error) {
	refusal := &event.Error{Kind: event.KindInvalid, Op: "page through neighbors",
		Message: "the cursor is not one that this question's last page gave; begin again without a cursor"}
	if len(q.Cursor) != base64.RawURLEncoding.EncodedLen(cursorLen) {
		return place{}, refusal
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Cursor) // it passes over line breaks, so what it gives may be shorter
	if err != nil || len(b) != cursorLen || b[0] != cursorVersion || b[1] > byte(incoming) {
		return place{}, refusal
	}
	body, sum := b[:2+orderLen], binary.BigEndian.Uint32(b[2+orderLen:])
	if sum != cursorSum(body, q) {
		return place{}, refusal
	}
	at, err := decodeOrder(body[2:])
	if err != nil {
		return place{}, refusal
	}
	return place{at, side(b[1])}, nil
}
