package history

import (
	"bufio"
	"encoding/json"
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
	Call     uint64       `json:"call,omitempty"`
	Type     string       `json:"type"` // invoke, ok, fail, info: unknown, and as in Jepsen's histories; note: no request
	Client   int          `json:"client,omitempty"`
	ID       string       `json:"id,omitempty"` // of a transaction
	Ops      []jsonOp     `json:"ops,omitempty"`
	Results  []jsonResult `json:"results,omitempty"`
	Seq      uint64       `json:"seq,omitempty"`
	FailedOp int          `json:"op,omitempty"` // from 1
	Reason   string       `json:"reason,omitempty"`

	Register *RegisterOp     `json:"register,omitempty"`
	Answer   *RegisterAnswer `json:"answer,omitempty"` // of a register
	Query    *QueryOp        `json:"query,omitempty"`
	IDs      []string        `json:"ids,omitempty"` // of a query
	Event    *FeedEvent      `json:"event,omitempty"`
	Watch    *WatchStep      `json:"watch,omitempty"`
	Note     *Note           `json:"note,omitempty"`
}

// Invoke says that a client is about to send a transaction, and returns its number in the history.
func (r *Recorder) Invoke(client int, ops []transport.Op) (call uint64) {
	return r.write(invocation(client, ops))
}

// InvokeTxn is Invoke of a transaction with a request id.
func (r *Recorder) InvokeTxn(client int, t *transport.Txn) (call uint64) {
	l := invocation(client, t.Ops)
	l.ID = t.RequestID.String()
	return r.write(l)
}

func invocation(client int, ops []transport.Op) line {
	l := line{Type: "invoke", Client: client, Ops: make([]jsonOp, len(ops))}
	for i, op := range ops {
		l.Ops[i] = jsonOp{op}
	}
	return l
}

// InvokeRegister says that a client is about to send an operation on a register, and returns its number in the history.
func (r *Recorder) InvokeRegister(client int, op RegisterOp) (call uint64) {
	return r.write(line{Type: "invoke", Client: client, Register: &op})
}

// OK says that a transaction is committed, with one result per operation, or none when the client was told none.
func (r *Recorder) OK(call uint64, results []transport.OpResult) {
	r.Committed(call, &transport.TxnOk{Results: results})
}

// Committed is OK with the seq of the decision event.
func (r *Recorder) Committed(call uint64, ok *transport.TxnOk) {
	l := line{Call: call, Type: "ok", Seq: ok.Seq}
	for _, res := range ok.Results {
		l.Results = append(l.Results, jsonResult{res})
	}
	r.write(l)
}

// RegisterOK says what an operation on a register was answered.
func (r *Recorder) RegisterOK(call uint64, a RegisterAnswer) {
	r.write(line{Call: call, Type: "ok", Answer: &a})
}

// Fail says that a request surely has not taken effect and never will; failedOp is 1 + the index of the transaction's operation whose
// precondition did not hold, 1 where the condition of any other request did not; 0: it was something else.
func (r *Recorder) Fail(call uint64, failedOp int, reason string) {
	r.write(line{Call: call, Type: "fail", FailedOp: failedOp, Reason: reason})
}

// Unknown says that a client gave up without knowing what became of its request.
func (r *Recorder) Unknown(call uint64, reason string) {
	r.write(line{Call: call, Type: "info", Reason: reason})
}

// Note writes down what v, which has a form in JSON, says of the history.
func (r *Recorder) Note(name string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fail(err)
		return
	}
	r.write(line{Type: noted, Note: &Note{Name: name, Value: raw}})
}

// InvokeQuery says that a client is about to read an index, and returns the query's number in the history.
func (r *Recorder) InvokeQuery(client int, q QueryOp) (call uint64) {
	return r.write(line{Type: "invoke", Client: client, Query: &q})
}

// QueryOK says which ids an index gave.
func (r *Recorder) QueryOK(call uint64, ids []string) {
	r.write(line{Call: call, Type: "ok", IDs: ids})
}

// Event writes down an event that somebody holds.
func (r *Recorder) Event(e FeedEvent) { r.write(line{Type: noted, Event: &e}) }

// Watch writes down what a watcher was given.
func (r *Recorder) Watch(w WatchStep) { r.write(line{Type: noted, Watch: &w}) }

// noted is the type of a line that is no request's.
const noted = "note"

// write appends a line; one of a request without a number begins it. The moment is read under the lock, so lines are in its order.
func (r *Recorder) write(l line) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = max(r.at, r.now().Nanoseconds())
	if l.At = r.at; l.Call == 0 && l.Type == "invoke" {
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
