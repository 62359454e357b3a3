package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Recorder writes down what clients do, as it happens, one JSON line each: so a history is there up to the moment at which the
// program that recorded it was killed, and recording costs no memory. All methods may be called concurrently.
type Recorder struct {
	now func() time.Duration

	mu   sync.Mutex
	out  *bufio.Writer // guarded by mu
	last uint64        // guarded by mu; the number of the transaction invoked last
	at   int64         // guarded by mu; times never go back
	err  error         // guarded by mu; the first
}

// NewRecorder records to w. Times are since now; Close must be called.
func NewRecorder(w io.Writer) *Recorder {
	begun := time.Now()
	return &Recorder{now: func() time.Duration { return time.Since(begun) }, out: bufio.NewWriterSize(w, 1<<16)}
}

// line is one line of the file.
type line struct {
	At       int64        `json:"at"` // ns since the history began
	Call     uint64       `json:"call"`
	Type     string       `json:"type"` // invoke, ok, fail, info: unknown, and as in Jepsen's histories
	Client   int          `json:"client,omitempty"`
	Ops      []jsonOp     `json:"ops,omitempty"`
	Results  []jsonResult `json:"results,omitempty"`
	FailedOp int          `json:"op,omitempty"` // from 1
	Reason   string       `json:"reason,omitempty"`
}

// Invoke says that a client is about to send a transaction, and returns its number in the history.
func (r *Recorder) Invoke(client int, ops []transport.Op) (call uint64) {
	l := line{Type: "invoke", Client: client, Ops: make([]jsonOp, len(ops))}
	for i, op := range ops {
		l.Ops[i] = jsonOp{op}
	}
	return r.write(l)
}

// OK says that a transaction is committed, with one result per operation, or none when the client was told none.
func (r *Recorder) OK(call uint64, results []transport.OpResult) {
	l := line{Call: call, Type: "ok"}
	for _, res := range results {
		l.Results = append(l.Results, jsonResult{res})
	}
	r.write(l)
}

// Fail says that a transaction surely has not taken effect and never will; failedOp is 1 + the index of the operation whose
// precondition did not hold, 0: it was something else.
func (r *Recorder) Fail(call uint64, failedOp int, reason string) {
	r.write(line{Call: call, Type: "fail", FailedOp: failedOp, Reason: reason})
}

// Unknown says that a client gave up without knowing what became of its transaction.
func (r *Recorder) Unknown(call uint64, reason string) {
	r.write(line{Call: call, Type: "info", Reason: reason})
}

// write appends a line; one without a number begins a transaction. The moment is read under the lock, so lines are in its order.
func (r *Recorder) write(l line) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = max(r.at, r.now().Nanoseconds())
	if l.At = r.at; l.Call == 0 {
		r.last++
		l.Call = r.last
	}
	b, err := json.Marshal(l)
	if err == nil {
		_, err = r.out.Write(append(b, '\n'))
	}
	r.fail(err)
	return l.Call
}

func (r *Recorder) fail(err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("record a history: %w", err)
	}
}

// Close writes out what is buffered and returns the first error of all: a history with an error is not complete.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(r.out.Flush())
	return r.err
}

// Limits of a history that is read.
const (
	maxLine = 32 << 20 // a transaction's results are at most 16 MiB, base64 and quotes aside
	maxTxns = 4 << 20
)

// errHistory is what is wrong with a file that is no history.
var errHistory = errors.New("not a history")

// Read reads what a Recorder has written. A transaction without an end is Unknown. A last line that was cut off is left out, since the
// recording program may have been killed; anything else that is not as a Recorder writes it is an error.
func Read(r io.Reader) ([]Txn, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	in.Split(wholeLines)
	var h []Txn
	ended := map[uint64]bool{}
	at := int64(0)
	for n := 1; in.Scan(); n++ {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errHistory, n, err)
		}
		if l.At < at {
			return nil, fmt.Errorf("%w: line %d is of an earlier moment than the one before", errHistory, n)
		}
		at = l.At
		var err error
		if h, err = l.join(h, ended); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errHistory, n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errHistory, err)
	}
	return h, nil
}

// wholeLines splits into lines and leaves out a last one without an end.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if atEOF && advance == len(data) && advance > 0 && data[advance-1] != '\n' {
		return advance, nil, err
	}
	return advance, token, err
}

// join adds what a line says. Transactions are numbered from 1 in the order of their lines.
func (l line) join(h []Txn, ended map[uint64]bool) ([]Txn, error) {
	if l.Type == "invoke" {
		if l.Call != uint64(len(h))+1 || len(h) == maxTxns {
			return nil, fmt.Errorf("transaction %d follows %d", l.Call, len(h))
		}
		t := Txn{Call: l.Call, Client: l.Client, Invoke: l.At, Return: Never}
		for _, op := range l.Ops {
			t.Ops = append(t.Ops, op.Op)
		}
		return append(h, t), nil
	}
	if l.Call == 0 || l.Call > uint64(len(h)) || ended[l.Call] {
		return nil, fmt.Errorf("an end of transaction %d, which is not under way", l.Call)
	}
	ended[l.Call] = true
	t := &h[l.Call-1]
	t.Reason = l.Reason
	switch l.Type {
	case "ok":
		t.Outcome, t.Return = OK, l.At
		if len(l.Results) != 0 && len(l.Results) != len(t.Ops) {
			return nil, fmt.Errorf("%d results of %d operations", len(l.Results), len(t.Ops))
		}
		for _, res := range l.Results {
			t.Results = append(t.Results, res.OpResult)
		}
	case "fail":
		if t.Outcome, t.Return, t.FailedOp = Fail, l.At, l.FailedOp; l.FailedOp < 0 || l.FailedOp > len(t.Ops) {
			return nil, fmt.Errorf("operation %d of %d failed", l.FailedOp, len(t.Ops))
		}
	case "info":
	default:
		return nil, fmt.Errorf("type %.20q", l.Type)
	}
	return h, nil
}
