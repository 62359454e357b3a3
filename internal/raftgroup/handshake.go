package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/pack"
)

// A raft connection opens with the preface 0xC1 "raft" version, then u16 length and a MessagePack array: whose it is and
// whom it is meant for (safety S1), and, unless it is raft's, what it is for. The receiver answers one byte, 0: welcome, or 1 followed by u16 length and the reason
// in plain text, and closes.
const (
	preface        = "\xc1raft\x01"
	helloBytes     = 4 << 10
	answerWelcome  = 0
	answerRefused  = 1
	handshakeField = 6

	purposeSnapshot = "snapshot" // the newest snapshot is asked for; raft's own connections have no purpose
)

// hello is what the dialing side says.
type hello struct {
	GridID      string
	Incarnation event.Incarnation
	Group       string
	From, To    event.ReplicaID
	Purpose     string // optional
}

func (h hello) encode() []byte {
	fields := handshakeField
	if h.Purpose != "" {
		fields++
	}
	b := pack.AppendArrayHeader(nil, fields)
	b = pack.AppendString(b, h.GridID)
	b = pack.AppendUint(b, h.Incarnation.N)
	b = pack.AppendBin(b, h.Incarnation.Random[:])
	b = pack.AppendString(b, h.Group)
	b = pack.AppendString(b, string(h.From))
	b = pack.AppendString(b, string(h.To))
	if h.Purpose != "" {
		b = pack.AppendString(b, h.Purpose)
	}
	return b
}

func decodeHello(b []byte) (h hello, err error) {
	r := pack.NewReader(b)
	fields, err := r.ArrayLen()
	if err != nil {
		return h, err
	}
	if fields < handshakeField {
		return h, fmt.Errorf("%d fields, want %d", fields, handshakeField)
	}
	var errs [handshakeField]error
	h.GridID, errs[0] = r.String()
	h.Incarnation.N, errs[1] = r.Uint()
	random, err := r.StringView()
	if err == nil && len(random) != len(h.Incarnation.Random) {
		err = fmt.Errorf("incarnation: %d random bytes, want %d", len(random), len(h.Incarnation.Random))
	}
	errs[2] = err
	copy(h.Incarnation.Random[:], random)
	h.Group, errs[3] = r.String()
	from, err := r.String()
	errs[4] = err
	to, err := r.String()
	errs[5] = err
	h.From, h.To = event.ReplicaID(from), event.ReplicaID(to)
	if fields > handshakeField {
		if h.Purpose, err = r.String(); err != nil {
			return h, err
		}
	}
	return h, errors.Join(errs[:]...)
}

func writeHello(w io.Writer, h hello) error {
	body := h.encode()
	if len(body) > helloBytes {
		return fmt.Errorf("handshake of %d bytes, at most %d are allowed", len(body), helloBytes)
	}
	b := binary.BigEndian.AppendUint16([]byte(preface), uint16(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

func readHello(r io.Reader) (hello, error) {
	var b [len(preface)]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return hello{}, err
	}
	if string(b[:]) != preface {
		return hello{}, fmt.Errorf("preface %q, want %q", b[:], preface)
	}
	body, err := readText(r, helloBytes)
	if err != nil {
		return hello{}, err
	}
	return decodeHello(body)
}

// readText reads u16 length and as many bytes.
func readText(r io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > limit {
		return nil, fmt.Errorf("%d bytes, at most %d are allowed", n, limit)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeAnswer(w io.Writer, refusal error) error {
	b := []byte{answerWelcome}
	if refusal != nil {
		reason := refusal.Error()
		reason = reason[:min(len(reason), helloBytes)]
		b = append(binary.BigEndian.AppendUint16([]byte{answerRefused}, uint16(len(reason))), reason...)
	}
	_, err := w.Write(b)
	return err
}

// greet opens a connection as its dialing side, within timeout.
func greet(conn net.Conn, said hello, timeout time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := writeHello(conn, said); err != nil {
		return err
	}
	if err := readAnswer(conn); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// readAnswer is nil when the receiver took the connection.
func readAnswer(r io.Reader) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("no answer to the handshake: %w", err)
	}
	switch b[0] {
	case answerWelcome:
		return nil
	case answerRefused:
		reason, err := readText(r, helloBytes)
		if err != nil {
			return fmt.Errorf("refused, and the reason was cut off: %w", err)
		}
		return errors.New("refused: " + string(reason))
	}
	return fmt.Errorf("answer 0x%02x to the handshake", b[0])
}
