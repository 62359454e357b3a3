package txn

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Shards reaches the leader of a shard. It is met by *client.Client.
//
// Shard sends one request to the shard's leader, wherever that is by now, repeats it while that is safe and ctx lasts, and
// returns its reply. Errors are *event.Error; their kind says whether the request surely did not happen.
type Shards interface {
	Shard(ctx context.Context, id event.ShardID, req client.ShardRequest) (*transport.RoutedOk, error)
}

// Config says who coordinates and through what.
type Config struct {
	Self event.MasterID
	// Propose returns Apply's answer, on whichever master it was proposed; an error says that there is none, and by its kind
	// whether the command surely is not in the log.
	Propose func(ctx context.Context, c event.Command) (fsm.Answer, error)
	View    func() *fsm.State // this master's applied state
	// Confirmed is a state that holds everything that was decided before the call.
	Confirmed func(ctx context.Context) (*fsm.State, error)
	// Admit tells whether a transaction may begin: the decision of one that may not would be refused. nil: each may.
	Admit  func(body event.Body, id event.RequestID) *event.Error
	Shards Shards
	Log    *slog.Logger // nil: slog.Default()

	Limits  Limits
	Metrics *Metrics          // nil: counted for nobody
	Point   func(fault.Label) // called before and after each step of the protocol; nil: fault.Point
}

// Limits are the clocks and bounds of a coordinator. Zero fields take the values named here.
type Limits struct {
	Timeout  time.Duration // of a transaction that names none; 10 s
	Attempt  time.Duration // the longest one attempt may prepare; 2 s, after which participants would ask anyway
	Finish   time.Duration // for one Finish or drop of an attempt; 2 s
	Sweep    time.Duration // between two looks of the leader, and how old a decision is when it takes over; 1 s
	Horizon  time.Duration // how far the horizon stays behind; 60 s, far longer than any attempt
	Complete time.Duration // for how long finished transactions are gathered into one txn_completed; 200 ms
	InFlight int           // transactions finished in the background at once; beyond it their clients wait; 1,024
}

// MaxTimeout bounds what a client may ask for: nobody waits longer, and a transaction costs memory while it is tried.
const MaxTimeout = time.Minute

// maxAhead is how far a request's time of issue may lie ahead (safety S5).
const maxAhead = time.Minute

func (l Limits) withDefaults() Limits {
	l.Timeout = cmp.Or(l.Timeout, 10*time.Second)
	l.Attempt = cmp.Or(l.Attempt, 2*time.Second)
	l.Finish = cmp.Or(l.Finish, 2*time.Second)
	l.Sweep = cmp.Or(l.Sweep, time.Second)
	l.Horizon = cmp.Or(l.Horizon, time.Minute)
	l.Complete = cmp.Or(l.Complete, 200*time.Millisecond)
	l.InFlight = cmp.Or(l.InFlight, 1024)
	return l
}

// Coordinator runs transactions on one master. Close must be called.
type Coordinator struct {
	cfg    Config
	limits Limits

	ctx     context.Context // of work in the background; ended by Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex       // orders wg.Add before Close's Wait
	slots   chan struct{}    // one token per transaction finished in the background
	settled chan event.TxnID // finished at every participant; when it is full the sweep finds them
}

// New makes a coordinator; it starts the goroutine that reports finished transactions.
func New(c Config) *Coordinator {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Point == nil {
		c.Point = fault.Point
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	limits := c.Limits.withDefaults()
	co := &Coordinator{cfg: c, limits: limits, slots: make(chan struct{}, limits.InFlight), settled: make(chan event.TxnID, 4*maxCompleted)}
	co.ctx, co.cancel = context.WithCancel(context.Background())
	co.wg.Add(1)
	go func() {
		defer co.wg.Done()
		co.report(co.ctx)
	}()
	return co
}

// Close ends the work in the background and waits for it. What is left unfinished the leader's sweep finishes.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// work is one transaction on its way.
type work struct {
	id     event.TxnID
	issued int64
	start  int64 // its age (safety S8): when this coordinator took it up, unix µs, by the clock here
	ops    []transport.Op
	mark   uint64 // of ops, in every nonce
	plan   *plan
	until  time.Time  // no attempt begins or prepares after this: the rest of the deadline is for the decision
	loose  []*attempt // attempts that every participant may still hold prepared
	left   []*attempt // attempts that some participant may still hold prepared when its time for that was up
	alone  bool       // a participant has shown that it holds no other attempt prepared
}

// Run executes a transaction and returns when its outcome is known. Errors are *event.Error: of a kind that says it surely
// did not happen (aborted, precondition, invalid, …), or KindUnknownOutcome, KindDeadline, KindExpired: the same request
// sent again gives the true outcome.
func (c *Coordinator) Run(ctx context.Context, req *transport.Txn) (ok *transport.TxnOk, err error) {
	defer func() { c.cfg.Metrics.answered(err) }()
	if err := validate(req); err != nil {
		return nil, err
	}
	timeout := cmp.Or(time.Duration(req.TimeoutMillis)*time.Millisecond, c.limits.Timeout)
	ctx, cancel := context.WithTimeout(ctx, min(timeout, MaxTimeout))
	defer cancel()
	deadline, _ := ctx.Deadline()
	w := &work{id: req.RequestID, issued: req.Issued, start: time.Now().UnixMicro(), ops: req.Ops}
	w.until = deadline.Add(-min(time.Second, time.Until(deadline)/4))
	if w.id.IsZero() { // nobody can repeat it: the id only has to be new
		rand.Read(w.id[:])
	}
	w.issued = cmp.Or(w.issued, w.start)
	return c.run(ctx, w)
}

func (c *Coordinator) run(ctx context.Context, w *work) (*transport.TxnOk, error) {
	st := c.cfg.View()
	var err error
	if w.plan, err = planOf(st.ShardMap(), w.ops); err != nil {
		return nil, err
	}
	if w.mark, err = markOf(w.ops); err != nil {
		return nil, err
	}
	if ok, err := c.remembered(ctx, st, w); ok != nil || err != nil {
		c.cfg.Metrics.repeated.Inc()
		return ok, err
	}
	if err := timely(st, w); err != nil {
		return nil, err
	}
	if w.plan.single() {
		ok, err := c.single(ctx, w)
		if !errors.Is(err, &event.Error{Kind: event.KindNeedsTxn}) {
			return ok, err
		}
	}
	if c.cfg.Admit != nil {
		if err := c.cfg.Admit(event.TxnCommitted{TxnID: w.id}, w.id); err != nil {
			return nil, err
		}
	}
	return c.multi(ctx, w)
}

// timely refuses, while nothing is prepared yet, what Apply would have to refuse later: an id that is not remembered and
// is older than what is, and one from the future. In an idle grid log time stands still, so the clock here counts as well.
func timely(st *fsm.State, w *work) error {
	switch {
	case w.issued <= st.Forgotten():
		return expired(w)
	case w.issued > max(st.Time(), time.Now().UnixMicro())+maxAhead.Microseconds():
		return &event.Error{Kind: event.KindFromTheFuture, Op: "txn", Message: fmt.Sprintf("transaction %s was issued more than %v ahead of the grid's clock: set the clock", w.id, maxAhead)}
	}
	return nil
}

func expired(w *work) *event.Error {
	return &event.Error{Kind: event.KindExpired, Op: "txn", Message: fmt.Sprintf("transaction %s is older than what is remembered: whether it took effect is not known here, look at the data", w.id)}
}

// multi runs attempts until the transaction is decided or its time is up.
func (c *Coordinator) multi(ctx context.Context, w *work) (*transport.TxnOk, error) {
	backoff := transport.Backoff{First: 4 * time.Millisecond, Max: 200 * time.Millisecond}
	for first := true; ; first = false {
		a := c.newAttempt(w)
		c.cfg.Metrics.attempts.Inc()
		if !first {
			c.cfg.Metrics.retries.Inc()
		}
		end := c.try(ctx, a)
		switch end.what {
		case again:
		case committed:
			return end.ok, nil
		case unknown:
			return nil, end.err
		case refused:
			return c.abort(ctx, a, aborted(w, end.err, ""))
		}
		limited, cancel := context.WithDeadline(ctx, w.until)
		err := backoff.Wait(limited, 0)
		cancel()
		if err != nil {
			return c.abort(ctx, a, timeUp(w, end.err))
		}
	}
}

// ending is how an attempt ended.
type ending struct {
	what what
	ok   *transport.TxnOk // the answer, when committed
	err  error            // why not, otherwise
}

type what int

const (
	committed what = iota // by this attempt or another one
	again                 // another attempt may succeed; this one is dropped
	refused               // no attempt can succeed; this one is dropped, the transaction is not closed yet
	unknown               // nothing more can be found out before the deadline
)

// try executes one attempt: prepare, then decide or drop.
func (c *Coordinator) try(ctx context.Context, a *attempt) ending {
	c.cfg.Point(fault.TxnPrepareBefore)
	begin := time.Now()
	v := c.prepare(ctx, a)
	c.cfg.Metrics.phase("prepare", begin)
	c.cfg.Point(fault.TxnPrepareAfter)
	if v.yes() {
		if v.no = a.results.excess(); v.no == nil {
			return c.commit(ctx, a)
		}
	}
	limited, cancel := context.WithDeadline(ctx, a.until) // a participant that is gone must not use up what the final abort needs
	c.drop(limited, a)
	cancel()
	if len(a.holds) > 0 {
		a.left = append(a.left, a)
	}
	switch {
	case v.done:
		return c.done(ctx, a.work)
	case v.lost != nil:
		return ending{what: unknown, err: v.lost}
	case v.no != nil:
		return ending{what: refused, err: v.no}
	}
	return ending{what: again, err: v.retry}
}

// timeUp is the answer that a transaction surely did not happen because there is no time for another attempt.
func timeUp(w *work, reason error) error {
	e := aborted(w, reason, ErrDeadline.Error())
	if e.Kind != event.KindAborted || e.OpNumber > 0 {
		return e
	}
	return &overdue{e}
}

// overdue is an error that is ErrDeadline as well.
type overdue struct{ why *event.Error }

// Error is that of the abort.
func (o *overdue) Error() string { return o.why.Error() }

// Unwrap makes it both.
func (o *overdue) Unwrap() []error { return []error{o.why, ErrDeadline} }

// aborted is the answer "it surely did not happen", with the last reason. A reason that says why in terms of the client's
// own request keeps its kind; of a conflict the operation is told.
func aborted(w *work, reason error, because string) *event.Error {
	e := &event.Error{Kind: event.KindAborted, Op: "txn", Txn: w.id}
	var cause *event.Error
	if errors.As(reason, &cause) {
		switch cause.Kind {
		case event.KindPrecondition, event.KindInvalid, event.KindTooLarge, event.KindUnsupported, event.KindFromTheFuture, event.KindFeedFull:
			e.Kind, e.OpNumber = cause.Kind, cause.OpNumber
		case event.KindLocked:
			e.OpNumber = cause.OpNumber
		}
	}
	switch {
	case reason == nil:
		e.Message = because
	case because == "":
		e.Message = reason.Error()
	default:
		e.Message = because + "; the last attempt: " + reason.Error()
	}
	return e
}
