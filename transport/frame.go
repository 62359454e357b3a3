package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

const (
	headerSize = 4
	smallFrame = 64 << 10 // frames up to here are read into the connection's own buffer
	firstBuf   = 512      // that buffer's first size; it doubles when bytes have filled it
	nameWindow = 64       // bytes of a payload that surely hold the variant's name

	// slowest is the least rate, bytes a second, at which a peer must send or take a frame.
	slowest = 1 << 20
)

// errFrameTooLarge: the frame's claimed length is over the limit of its variant. The stream cannot be read further.
var errFrameTooLarge = errors.New("frame over the limit")

// AppendFrame writes msg as a frame behind b. A message over its variant's frame limit is an *event.Error of
// KindTooLarge, and b is returned as it was.
func AppendFrame(b []byte, msg any) ([]byte, error) {
	out, err := EncodeMessage(append(b, 0, 0, 0, 0), msg)
	if err != nil {
		return b, err
	}
	n := len(out) - len(b) - headerSize
	if v, ok := variantOf(msg); ok && n > v.frameLimit() {
		return b, &event.Error{Kind: event.KindTooLarge, Op: "encode " + v.name,
			Message: fmt.Sprintf("the message has %d bytes: at most %d are allowed", n, v.frameLimit())}
	}
	binary.BigEndian.PutUint32(out[len(b):], uint32(n))
	return out, nil
}

// appendErrorFrame writes an Error reply as a frame behind b.
func appendErrorFrame(b []byte, e *event.Error, extended bool) []byte {
	out, err := appendError(append(b, 0, 0, 0, 0), e, extended)
	if err != nil { // an event.Error is always encodable: it is strings and numbers
		return b
	}
	binary.BigEndian.PutUint32(out[len(b):], uint32(len(out)-len(b)-headerSize))
	return out
}

func (v *variant) frameLimit() int {
	if v.has(storage) {
		return MaxStorageFrame
	}
	return MaxGridFrame
}

// frameLimit decides a frame's limit by the variant's name, which the first bytes of its payload hold.
func frameLimit(prefix []byte) int {
	if v := variantAt(prefix); v != nil {
		return v.frameLimit()
	}
	return MaxGridFrame
}

// variantAt is the variant whose name the first bytes of a payload hold; nil: none that is known.
func variantAt(prefix []byte) *variant {
	r := pack.NewReader(prefix)
	if len(prefix) > 0 && prefix[0] == 0x81 { // {"Variant": …: not MapLen, which wants the whole value to be there
		r = pack.NewReader(prefix[1:])
	}
	name, err := r.StringView()
	if err != nil {
		return nil
	}
	return variants.byName[string(name)]
}

// frameReader cuts a connection's bytes into frames. Memory grows with what has been received: the buffer starts small
// and doubles when it is full, whatever length a frame claims.
type frameReader struct {
	ctx   context.Context // reading ends with it; whoever cancels it also sets a read deadline in the past
	conn  net.Conn
	buf   []byte
	r, w  int  // unread bytes are buf[r:w]
	large bool // in readLarge

	idle    func() time.Time  // deadline for the first byte of a frame; zero: none
	receive time.Duration     // deadline for the rest of a frame, plus its length at the slowest rate
	charge  func(n int) error // asked before n more bytes of a large frame are kept; nil: always granted
	onRead  func()            // called after bytes have arrived; nil: nobody wants to know
}

// next returns the payload of the next frame. It is valid until the next call; large says that its bytes have been
// charged. io.EOF is a clean end between frames.
func (f *frameReader) next() (payload []byte, large bool, err error) {
	if err := f.need(headerSize, headerSize); err != nil {
		return nil, false, err
	}
	claimed := int64(binary.BigEndian.Uint32(f.buf[f.r:]))
	if claimed > MaxStorageFrame {
		return nil, false, fmt.Errorf("%w: it claims %d bytes, at most %d are allowed", errFrameTooLarge, claimed, MaxStorageFrame)
	}
	n := int(claimed)
	if n > MaxGridFrame {
		if err := f.need(headerSize+nameWindow, n); err != nil {
			return nil, false, err
		}
		if limit := frameLimit(f.buf[f.r+headerSize : f.r+headerSize+nameWindow]); n > limit {
			return nil, false, fmt.Errorf("%w: it claims %d bytes, at most %d are allowed for this request", errFrameTooLarge, n, limit)
		}
	}
	if n > smallFrame {
		payload, err = f.readLarge(n)
		return payload, true, err
	}
	if err := f.need(headerSize+n, n); err != nil {
		return nil, false, err
	}
	payload = f.buf[f.r+headerSize : f.r+headerSize+n]
	f.r += headerSize + n
	return payload, false, nil
}

// need reads until k bytes of the frame are buffered; n is the frame's length.
func (f *frameReader) need(k, n int) error {
	if f.w-f.r >= k {
		return nil
	}
	armed := false
	for f.w-f.r < k {
		if !armed {
			armed = f.w > f.r
			if err := f.arm(armed, n); err != nil {
				return err
			}
		}
		f.makeRoom(k)
		m, err := f.conn.Read(f.buf[f.w:])
		f.w += m
		if m > 0 && f.onRead != nil {
			f.onRead()
		}
		if err != nil && f.w-f.r < k {
			if errors.Is(err, io.EOF) && f.w > f.r {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// arm sets the deadline for the next reads: inside a frame of n bytes, or between frames.
func (f *frameReader) arm(inside bool, n int) error {
	by := f.idle
	if inside {
		by = func() time.Time { return time.Now().Add(f.receive + transferTime(n)) }
	}
	if err := f.conn.SetReadDeadline(by()); err != nil {
		return err
	}
	return context.Cause(f.ctx) // whoever cancels sets a deadline in the past afterwards: one of the two is seen
}

// transferTime is how long n bytes may take.
func transferTime(n int) time.Duration {
	return time.Duration(float64(n) / slowest * float64(time.Second))
}

// makeRoom moves what is unread to the front, and doubles the buffer when that fills it.
func (f *frameReader) makeRoom(k int) {
	if f.buf == nil {
		f.buf = make([]byte, firstBuf)
	}
	if f.r == f.w {
		f.r, f.w = 0, 0
	}
	if f.w < len(f.buf) && f.r+k <= len(f.buf) {
		return
	}
	to := f.buf
	if f.w-f.r == len(f.buf) {
		to = make([]byte, min(2*len(f.buf), headerSize+smallFrame))
	}
	f.w = copy(to, f.buf[f.r:f.w])
	f.buf, f.r = to, 0
}

// readLarge reads a frame of n bytes, whose header is buffered, into memory of its own that doubles as it fills.
func (f *frameReader) readLarge(n int) ([]byte, error) {
	if err := f.arm(true, n); err != nil {
		return nil, err
	}
	f.r += headerSize
	f.large = true
	have := 0
	body := []byte(nil)
	for have < n {
		if have == len(body) {
			grown := min(n, max(2*len(body), 2*(f.w-f.r), 8*firstBuf))
			if f.charge != nil {
				if err := f.charge(grown - len(body)); err != nil {
					return nil, err
				}
			}
			next := make([]byte, grown)
			copy(next, body)
			body = next
		}
		if f.w > f.r { // what the buffer holds already
			m := copy(body[have:], f.buf[f.r:f.w])
			f.r += m
			have += m
			continue
		}
		m, err := f.conn.Read(body[have:])
		have += m
		if m > 0 && f.onRead != nil {
			f.onRead()
		}
		if err != nil && have < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	f.large = false
	return body, nil
}

// writeBy is the deadline for writing n bytes.
func writeBy(timeout time.Duration, n int) time.Time {
	if timeout <= 0 || timeout == math.MaxInt64 {
		return time.Time{}
	}
	return time.Now().Add(timeout + transferTime(n))
}

// inside tells whether a frame has begun and not ended.
func (f *frameReader) inside() bool { return f.w > f.r || f.large }
