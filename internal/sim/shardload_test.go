package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sdk "github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

const (
	owners    = 4
	registers = 6   // of each owner
	accounts  = 4   // of each owner
	stake     = 100 // of each account
)

// shardLoad is the users of a world's shards: each writes to concepts of its own and reads everybody's, one half through the
// client library and one half through the masters, as programs in other languages do.
type shardLoad struct {
	w      *world
	slots  chan struct{}
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	owners []*owner

	writes, reads, transfers, aborted, links, repeats atomic.Int64
}

func (w *world) startShardLoad() *shardLoad {
	l := &shardLoad{w: w, slots: make(chan struct{}, owners)}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for i := range owners {
		o := &owner{shardLoad: l, number: i, rand: rand.New(rand.NewPCG(w.seed, uint64(i)+300)), bonds: map[[2]*register]outcome{}}
		host := w.net.Host(clientHost(i))
		for k := range w.peers {
			o.masters = append(o.masters, w.peers[(i+k)%len(w.peers)].Grid)
		}
		o.pool = transport.NewPool(transport.PoolConfig{Network: host})
		var err error
		if o.lib, err = sdk.New(sdk.Config{Masters: o.masters, Network: host, Log: slog.New(w.tap.of(clientHost(i)))}); err != nil {
			w.t.Fatal(err)
		}
		for k := range registers {
			o.registers = append(o.registers, newRegister(fmt.Sprintf("owner-%d/register-%d", i, k)))
		}
		for k := range accounts {
			o.accounts = append(o.accounts, &account{newRegister(fmt.Sprintf("owner-%d/account-%d", i, k)), stake})
		}
		l.owners = append(l.owners, o)
	}
	for _, o := range l.owners {
		l.wg.Go(o.run)
	}
	return l
}

// pause waits until nobody has a request under way, and keeps it so until resume.
func (l *shardLoad) pause() (resume func()) {
	for range owners {
		l.slots <- struct{}{}
	}
	return func() {
		for range owners {
			<-l.slots
		}
	}
}

func (l *shardLoad) close() {
	l.stop()
	l.wg.Wait()
	for _, o := range l.owners {
		l.w.fault(errors.Join(o.lib.Close(), o.pool.Close()))
	}
}

// account is a register that changes in transfers only.
type account struct {
	*register
	balance int // of the version acknowledged last; the owner's
}

// owner is one user.
type owner struct {
	*shardLoad
	number    int
	rand      *rand.Rand
	lib       *sdk.Client
	pool      *transport.Pool
	masters   []string
	registers []*register
	accounts  []*account
	pending   *transfer                // its outcome is not known; nothing is transferred until it is
	bonds     map[[2]*register]outcome // associations that were asked for
	transfer  int                      // the last one's number
}

func (o *owner) run() {
	for o.ctx.Err() == nil {
		select {
		case o.slots <- struct{}{}:
		case <-o.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), opLimit)
		o.step(ctx)
		cancel()
		<-o.slots
		think := time.NewTimer(time.Duration(10+o.rand.IntN(90)) * time.Millisecond)
		select {
		case <-think.C:
		case <-o.ctx.Done():
			think.Stop()
		}
	}
}

func (o *owner) step(ctx context.Context) {
	switch n := o.rand.IntN(100); {
	case o.accounts[0].horizon().acked == 0 || n < 25:
		o.move(ctx)
	case n < 60:
		o.write(ctx, o.registers[o.rand.IntN(registers)])
	case n < 68:
		o.bind(ctx)
	default:
		other := o.owners[o.rand.IntN(owners)]
		o.fault(o.read(ctx, other.all()[o.rand.IntN(registers+accounts)]))
	}
}

func (o *owner) fault(err error) {
	if err != nil {
		o.w.fault(fmt.Errorf("%s: %w", clientHost(o.number), err))
	}
}

// all is the owner's concepts.
func (o *owner) all() []*register {
	all := slices.Clone(o.registers)
	for _, a := range o.accounts {
		all = append(all, a.register)
	}
	return all
}

// library tells whether the owner calls through the client library, or masters alone.
func (o *owner) library() bool { return o.number%2 == 0 }

// call sends a request once, or as the library does.
func (o *owner) call(ctx context.Context, req any) (any, error) {
	var reply any
	var err error
	if o.library() {
		reply, err = o.lib.Do(ctx, req)
	} else {
		reply, err = o.pool.Call(ctx, o.masters[o.rand.IntN(len(o.masters))], req)
	}
	var e *event.Error
	if errors.As(err, &e) && !slices.Contains(shardRefusals, e.Kind) {
		o.fault(fmt.Errorf("%s: %w (%s)", transport.VariantName(req), err, e.Kind))
	}
	return reply, err
}

// shardRefusals are the errors that a run without defects may give: a transaction may also lose to others, or wait for one that is
// in doubt.
var shardRefusals = append([]event.Kind{event.KindAborted, event.KindLocked, event.KindInDoubt, event.KindWrongShard}, refusals...)

// write sends the next version of a register. It is not repeated here: what protects it is the library's, or the gateway's.
func (o *owner) write(ctx context.Context, r *register) {
	version, content := r.begin("")
	_, err := o.call(ctx, &transport.LearnConcept{ConceptID: r.id, Content: content, Strength: 1, Confidence: 1})
	did := verdict(err)
	r.settle(version, did)
	if did == acked {
		o.writes.Add(1)
	}
}

func (o *owner) read(ctx context.Context, r *register) error {
	h := r.horizon()
	got, err := transport.As[transport.QueryConceptOk](o.call(ctx, &transport.QueryConcept{ConceptID: r.id}))
	if err != nil {
		return nil
	}
	o.reads.Add(1)
	return r.saw(h, got.Found, got.Content)
}

// transfer is a transaction over accounts, mostly of both shards; it keeps its request id until its outcome is known.
type transfer struct {
	txn      *transport.Txn
	accounts []*account
	versions []int
	balances []int
}

// move begins a transfer, or asks once more what became of the last one. The first one opens all accounts.
func (o *owner) move(ctx context.Context) {
	if o.pending == nil {
		o.pending = o.begin()
	} else {
		o.repeats.Add(1)
	}
	p := o.pending
	p.txn.TimeoutMillis = uint32(opLimit.Milliseconds())
	_, err := o.call(ctx, p.txn)
	did := verdict(err)
	if did == open || did == failed && !final(err) {
		return
	}
	for i, a := range p.accounts {
		a.settle(p.versions[i], did)
		if did == acked {
			a.balance = p.balances[i]
		}
	}
	if o.pending = nil; did == acked {
		o.transfers.Add(1)
	} else {
		o.aborted.Add(1)
	}
}

// final tells whether an error is the outcome of the transaction, whatever was sent earlier under its id: what one attempt failed for
// is not.
func final(err error) bool {
	var e *event.Error
	return errors.As(err, &e) && e.Kind == event.KindAborted
}

func (o *owner) begin() *transfer {
	o.transfer++
	p := &transfer{txn: &transport.Txn{Issued: time.Now().UnixMicro()}}
	for i := range p.txn.RequestID {
		p.txn.RequestID[i] = byte(o.rand.Uint32())
	}
	amount := 1 + o.rand.IntN(20)
	for i, k := range o.rand.Perm(accounts) {
		a := o.accounts[k]
		balance := a.balance
		if a.horizon().acked > 0 {
			switch i {
			case 0:
				balance -= amount
			case 1:
				balance += amount
			default:
				continue
			}
		}
		version, content := a.begin(fmt.Sprintf("transfer %d balance %d", o.transfer, balance))
		p.txn.Ops = append(p.txn.Ops, transport.Op{Kind: transport.OpLearnConcept, ID: a.id, Content: content, Strength: 1, Confidence: 1})
		p.accounts, p.versions, p.balances = append(p.accounts, a), append(p.versions, version), append(p.balances, balance)
	}
	return p
}

// bind asks for an association between two concepts of the owner, mostly of two shards.
func (o *owner) bind(ctx context.Context) {
	all := slices.DeleteFunc(o.all(), func(r *register) bool { return !r.written() })
	if len(all) < 2 {
		return
	}
	k := o.rand.Perm(len(all))
	pair := [2]*register{all[k[0]], all[k[1]]}
	_, err := o.call(ctx, &transport.LearnAssociation{SourceID: pair[0].id, TargetID: pair[1].id, AssocType: 1, Confidence: 1})
	did := verdict(err)
	if before, known := o.bonds[pair]; known && (before == acked || did == failed) {
		return // it stays what it was
	}
	if o.bonds[pair] = did; did == acked {
		o.links.Add(1)
	}
}

// shardResult is what a run has shown of the shards.
type shardResult struct {
	killed, deposed, hashed                            int64
	writes, reads, transfers, aborted, repeated, links int64
}

func (r shardResult) String() string {
	return fmt.Sprintf("%d nodes killed, %d leaders of shards replaced, %d writes, %d transfers and %d associations acknowledged, %d transfers aborted, %d times their outcome asked for again, %d reads, %d contents of replicas compared",
		r.killed, r.deposed, r.writes, r.transfers, r.links, r.aborted, r.repeated, r.reads, r.hashed)
}

func (r *shardResult) add(o shardResult) {
	r.killed, r.deposed, r.hashed = r.killed+o.killed, r.deposed+o.deposed, r.hashed+o.hashed
	r.writes, r.reads, r.transfers = r.writes+o.writes, r.reads+o.reads, r.transfers+o.transfers
	r.aborted, r.repeated, r.links = r.aborted+o.aborted, r.repeated+o.repeated, r.links+o.links
}

// result is what has happened so far; nil: nothing.
func (l *shardLoad) result() shardResult {
	if l == nil {
		return shardResult{}
	}
	return shardResult{l.w.killed.Load(), l.w.deposed.Load(), l.w.hashed.Load(), l.writes.Load(), l.reads.Load(), l.transfers.Load(),
		l.aborted.Load(), l.repeats.Load(), l.links.Load()}
}
