package fsm

import (
	"crypto/sha256"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// maxAhead is how far issued may lie ahead of log time: 60 s.
const maxAhead = int64(60e6)

// What a request's row says beyond its answer.
const (
	outcomeNone      = 0 // an ordinary command
	outcomeCommitted = 1 // a transaction, committed under attempt Value
	outcomeAborted   = 2 // a transaction, aborted for every attempt
)

// request is a remembered request id with its first answer: local.
type request struct {
	ID      event.RequestID `wire:"id"`
	Issued  int64           `wire:"issued"`
	Body    [16]byte        `wire:"body"` // of SHA-256 over type and body; zero for transactions
	Outcome uint8           `wire:"outcome"`
	Seq     uint64          `wire:"seq"`
	Value   uint64          `wire:"value"`
	Err     *refusal        `wire:"err"`
}

// refusal is an event.Error as the state keeps it. It has its own form because it is hashed and in snapshots: a field that is
// added to what goes over the wire must not change them.
type refusal struct {
	Kind             event.Kind      `wire:"kind"`
	Op               string          `wire:"op"`
	Message          string          `wire:"message"`
	Leader           string          `wire:"leader"`
	Epoch            uint64          `wire:"epoch"`
	RetryAfterMillis uint32          `wire:"retry_after_millis"`
	Txn              event.RequestID `wire:"txn"`
	OpNumber         uint32          `wire:"op_number"`
}

func kept(e *event.Error) *refusal {
	if e == nil {
		return nil
	}
	return &refusal{e.Kind, e.Op, e.Message, e.Leader, e.Epoch, e.RetryAfterMillis, e.Txn, e.OpNumber}
}

func (r *refusal) told() *event.Error {
	if r == nil {
		return nil
	}
	return &event.Error{Kind: r.Kind, Op: r.Op, Message: r.Message, Leader: r.Leader, Epoch: r.Epoch,
		RetryAfterMillis: r.RetryAfterMillis, Txn: r.Txn, OpNumber: r.OpNumber}
}

// tabled tells whether a command's answer is remembered under its request id. Telemetry and acknowledgements are idempotent
// by content; transactions have their own rule (decideTxnCommitted).
func tabled(c *event.Command) bool {
	switch c.Type {
	case event.TypeFeedAcked, event.TypeTxnCommitted, event.TypeTxnAborted, event.TypeStateChecked:
		return false
	}
	return !c.RequestID.IsZero() && event.Info(c.Type).Class != event.Telemetry
}

// once applies a command unless its request id is known (safety S5, S30).
func (r *run) once(c *event.Command, h handler) (Answer, error) {
	s := r.s
	s.forget()
	sum, err := r.bodyHash(c)
	if err != nil {
		return Answer{Err: &event.Error{Kind: event.KindTooLarge, Op: "propose " + c.Type.String(), Message: err.Error()}}, nil
	}
	if q := s.requests.get(c.RequestID); q != nil && !fault.Broken(fault.DoubleApply) {
		if q.Body != sum {
			return Answer{Err: &event.Error{Kind: event.KindIDReused, Op: "propose " + c.Type.String(), Message: "request id " + c.RequestID.String() + " was used for something else: make a new one"}}, nil
		}
		return Answer{Seq: q.Seq, Value: q.Value, Err: q.Err.told()}, nil
	}
	if err := s.outOfTime(c.RequestID, c.Issued); err != nil {
		err.Op = "propose " + c.Type.String()
		return Answer{Err: err}, nil
	}
	a, remember, err := r.decide(c, h)
	if err == nil && remember {
		s.putRequest(request{ID: c.RequestID, Issued: c.Issued, Body: sum, Seq: a.Seq, Value: a.Value, Err: kept(a.Err)})
		s.forget()
	}
	return a, err
}

func (r *run) bodyHash(c *event.Command) (short [16]byte, err error) {
	b, err := event.AppendBody(append(r.buf[:0], byte(c.Type>>8), byte(c.Type)), c.Body)
	if err != nil {
		return short, err
	}
	r.buf = b
	sum := sha256.Sum256(b)
	copy(short[:], sum[:])
	return short, nil
}

// outOfTime refuses an id that is not in the table and was issued when the table no longer reaches back, or in the future. Which operation that is says
// the caller.
func (s *State) outOfTime(id event.RequestID, issued int64) *event.Error {
	switch {
	case issued <= 0:
		return &event.Error{Kind: event.KindInvalid, Message: "request " + id.String() + " says no time of issue"}
	case issued <= s.mark.Forgotten:
		return &event.Error{Kind: event.KindExpired, Message: "request " + id.String() + " is older than what is remembered: whether it took effect is not known here, look at the state"}
	case issued > s.mark.Time && issued-s.mark.Time > maxAhead:
		return &event.Error{Kind: event.KindFromTheFuture, Message: "request " + id.String() + " was issued more than 60 s ahead of the grid's clock: set the clock"}
	}
	return nil
}

// forget evicts what is over the bounds, smallest issued first.
func (s *State) forget() {
	horizon := s.mark.Time - s.limits.keep
	for {
		k, ok := s.index.byIssued.tree.Min()
		if !ok || k.issued >= horizon && s.requests.len() <= s.limits.requests {
			return
		}
		s.index.byIssued.remove(k)
		s.requests.delete(k.id)
		s.mark.Forgotten = max(s.mark.Forgotten, k.issued)
	}
}

// keepOutcome remembers a transaction's outcome under its id; the record in the history goes when the horizon passes.
func (s *State) keepOutcome(c *event.Command, e *event.Envelope) {
	q := request{Seq: e.Seq}
	switch b := e.Body.(type) {
	case event.TxnCommitted:
		q.ID, q.Issued, q.Value, q.Outcome = b.TxnID, b.Issued, b.Attempt, outcomeCommitted
	case event.TxnAborted:
		if !b.Final {
			return
		}
		q.ID, q.Issued, q.Outcome = b.TxnID, c.Issued, outcomeAborted
	default:
		return
	}
	s.putRequest(q)
	s.forget()
}

// emitted applies a command of an emitter that numbers its events (safety S5): each number once, without gaps. A number
// that was refused for its content is taken all the same, or the emitter could never go on.
func (r *run) emitted(c *event.Command, h handler) (Answer, error) {
	const op = "take emitted event"
	s := r.s
	agent, store := splitEmitter(c.Emitter)
	known := s.agents.get(agent)
	if known == nil || store == "" || known.StoreID != store {
		return Answer{Err: &event.Error{Kind: event.KindUnknownAgent, Op: op, Message: "emitter " + c.Emitter + " is not that of a registered agent: register it first"}}, nil
	}
	if through := s.Emitter(c.Emitter); c.EmitterSeq <= through {
		if c.EmitterSeq == 0 {
			return Answer{Err: refuse(event.KindInvalid, op, "%s: numbers begin at 1", c.Emitter).err}, nil
		}
		return Answer{}, nil // already
	} else if c.EmitterSeq != through+1 {
		return Answer{Value: through, Err: refuse(event.KindConflict, op, "%s: event %d skips; the next one is %d", c.Emitter, c.EmitterSeq, through+1).err}, nil
	}
	a, err := Answer{Err: refuse(event.KindInvalid, op, "%s: %s is not about the emitter itself", c.Emitter, c.Type).err}, error(nil)
	if emitterOf(c.Body) == agent {
		a, _, err = r.decide(c, h)
	}
	s.emitters.set(agent, Emitter{AgentID: agent, StoreID: store, Through: c.EmitterSeq})
	return a, err
}

// splitEmitter parts "<agent id>.<store id>".
func splitEmitter(name string) (event.AgentID, string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", ""
	}
	return event.AgentID(name[:i]), name[i+1:]
}

// emitterOf is the agent that may emit an event; empty: nobody, it is proposed.
func emitterOf(b event.Body) event.AgentID {
	switch b := b.(type) {
	case event.SpawnSucceeded:
		return b.AgentID
	case event.SpawnFailed:
		return b.AgentID
	case event.StopSucceeded:
		return b.AgentID
	case event.StopFailed:
		return b.AgentID
	case event.NodeCrashed:
		return b.AgentID
	case event.NodeRestarted:
		return b.AgentID
	}
	return ""
}
