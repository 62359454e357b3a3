package master

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// proposer puts commands into the log, from any master.
type proposer struct {
	leading *leading
	group   *raftgroup.Group
	pool    *transport.Pool
	slow    *transport.Pool // for telemetry, which waits at the leader: replies on a connection are in order
	beats   *backlog
	stats   *stats
	service *service
	admit   *admission
	halted  atomic.Pointer[event.Error] // why this leader takes no commands; nil: it does
}

// Propose commits a command and returns the state machine's answer, a refusal included (Answer.Err). The error says that
// there is no answer: of kind unavailable, surely not done; of kind unknown_outcome, it may be.
func (p *proposer) Propose(ctx context.Context, cmd event.Command) (fsm.Answer, error) {
	prop, err := newProposal(cmd)
	if err != nil {
		return fsm.Answer{}, err
	}
	return p.commit(ctx, prop)
}

// Here proposes on this master only, for what its leadership alone may decide.
func (p *proposer) Here(ctx context.Context, cmd event.Command) (fsm.Answer, error) {
	prop, err := newProposal(cmd)
	if err != nil {
		return fsm.Answer{}, err
	}
	return p.local(ctx, prop)
}

// proposal is one command on its way to the leader.
type proposal struct {
	command event.Command
	bytes   []byte // its encoding, as it will stand in the log
	hops    uint32 // how often it was passed on already
}

func newProposal(cmd event.Command) (proposal, error) {
	bytes, err := event.AppendCommand(nil, &cmd)
	if err != nil {
		return proposal{}, &event.Error{Kind: event.KindInvalid, Op: "propose " + cmd.Type.String(), Message: err.Error()}
	}
	return proposal{command: cmd, bytes: bytes}, nil
}

func (p proposal) safe() bool {
	return !p.command.RequestID.IsZero() || p.command.Emitter != "" || p.command.Type.Idempotent()
}

func (p *proposer) commit(ctx context.Context, prop proposal) (answer fsm.Answer, err error) {
	err = p.leading.Do(ctx, errand{
		what: "propose " + prop.command.Type.String(),
		safe: prop.safe(),
		local: func(ctx context.Context) (err error) {
			answer, err = p.local(ctx, prop)
			return err
		},
		remote: func(ctx context.Context, address string) (err error) {
			answer, err = p.forward(ctx, address, prop)
			return err
		},
	})
	p.stats.proposed(answer, err)
	return answer, err
}

func (p *proposer) local(ctx context.Context, prop proposal) (fsm.Answer, error) {
	propose := p.group.Propose
	if telemetry(prop.command.Type) {
		propose = p.group.ProposeTelemetry
		defer p.beats.begin()()
	}
	if halted := p.halted.Load(); halted != nil {
		return fsm.Answer{}, halted
	}
	if answer, pass, err := p.admit.Pass(&prop.command); !pass {
		return answer, err
	}
	result, err := propose(ctx, prop.bytes)
	if err != nil {
		return fsm.Answer{}, err
	}
	if err := p.service.Err(); err != nil { // the answer is of a state that is not the others'
		return fsm.Answer{}, &event.Error{Kind: event.KindUnknownOutcome, Op: "propose", Message: err.Error()}
	}
	return answerOf(result)
}

func telemetry(t event.Type) bool { return event.Info(t).Class == event.Telemetry }

func (p *proposer) forward(ctx context.Context, address string, prop proposal) (fsm.Answer, error) {
	if prop.hops >= maxHops {
		return fsm.Answer{}, passedOn("propose", address)
	}
	pool := p.pool
	if telemetry(prop.command.Type) {
		pool = p.slow
	}
	reply, err := transport.Call[transport.ForwardOk](ctx, pool, address, &transport.Forward{Commands: [][]byte{prop.bytes}, Hops: prop.hops + 1})
	if err != nil {
		return fsm.Answer{}, err
	}
	if len(reply.Answers) != 1 {
		return fsm.Answer{}, &event.Error{Kind: event.KindUnknownOutcome, Op: "forward", Message: fmt.Sprintf("%s gave %d answers to one command", address, len(reply.Answers))}
	}
	a := reply.Answers[0]
	if a.Error != nil && outcomeOf(a.Error) != outcomeRefused {
		return fsm.Answer{}, a.Error
	}
	return fsm.Answer{Seq: a.Seq, Value: a.Value, Epoch: a.Epoch, Err: a.Error}, nil
}

// Forwarded handles commands that another master passes on; each gets its own answer, in their order.
func (p *proposer) Forwarded(ctx context.Context, f *transport.Forward) (*transport.ForwardOk, error) {
	ok := &transport.ForwardOk{Answers: make([]transport.Answered, len(f.Commands))}
	for i, bytes := range f.Commands {
		cmd, err := event.DecodeCommand(bytes)
		if err != nil {
			return nil, &event.Error{Kind: event.KindInvalid, Op: "forward", Message: fmt.Sprintf("command %d of %d: %v", i+1, len(f.Commands), err)}
		}
		answer, err := p.commit(ctx, proposal{command: *cmd, bytes: bytes, hops: f.Hops})
		if err != nil {
			answer.Err = asError("forward", err)
		}
		ok.Answers[i] = transport.Answered{Seq: answer.Seq, Value: answer.Value, Epoch: answer.Epoch, Error: answer.Err}
	}
	_, ok.Term, _ = p.group.Leader()
	return ok, nil
}
