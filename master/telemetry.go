package master

import (
	"context"
	"fmt"

	"github.com/sutra-grid/sutra-grid/fsm"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxReadings bounds one EmitTelemetry. More would let one node fill an entry of the log, fewer make a busy one ask several times a
// second.
const maxReadings = 256

// measured lists what storage nodes may say of themselves.
var measured = map[event.Type]bool{
	event.TypeStorageMetrics:           true,
	event.TypeQueryPerformance:         true,
	event.TypeEmbeddingLatency:         true,
	event.TypeHNSWIndexBuilt:           true,
	event.TypeHNSWIndexLoaded:          true,
	event.TypePathfindingMetrics:       true,
	event.TypeReconciliationComplete:   true,
	event.TypeEmbeddingServiceHealthy:  true,
	event.TypeEmbeddingServiceDegraded: true,
}

// emitTelemetry takes a node's readings to the leader, in one piece.
func (c *core) emitTelemetry(ctx context.Context, r *transport.EmitTelemetry) (*transport.EmitTelemetryOk, error) {
	props, err := readingsOf(r)
	if err != nil {
		return nil, err
	}
	if level := c.replica.View().Level(); level < fsm.TelemetryLevel {
		return nil, &event.Error{Kind: event.KindUnsupported, Op: "emit telemetry",
			Message: fmt.Sprintf("it takes level %d, the grid is at %d", fsm.TelemetryLevel, level)}
	}
	return c.proposer.readings(ctx, r, props)
}

func readingsOf(r *transport.EmitTelemetry) ([]proposal, error) {
	const op = "emit telemetry"
	if err := checkName("actor", r.Actor, true); err != nil {
		return nil, err
	}
	if len(r.Events) == 0 || len(r.Events) > maxReadings {
		return nil, &event.Error{Kind: event.KindInvalid, Op: op, Message: fmt.Sprintf("%d events, want 1 to %d", len(r.Events), maxReadings)}
	}
	props := make([]proposal, len(r.Events))
	for i, e := range r.Events {
		if !measured[e.Type] {
			return nil, &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf("event %d of %s: %s is no reading of a node", i+1, r.Actor, e.Type)}
		}
		body, err := event.DecodeBody(e.Type, e.Body)
		if err != nil {
			return nil, &event.Error{Kind: event.KindInvalid, Op: op, Message: fmt.Sprintf("event %d of %s: %v", i+1, r.Actor, err)}
		}
		if props[i], err = newProposal(event.Command{Actor: r.Actor, Type: e.Type, Body: body}); err != nil {
			return nil, err
		}
	}
	return props, nil
}

// readings proposes telemetry at the leader, in its order, at most once: what may have been done is not repeated.
func (p *proposer) readings(ctx context.Context, r *transport.EmitTelemetry, props []proposal) (ok *transport.EmitTelemetryOk, err error) {
	const what = "emit telemetry"
	err = p.leading.Do(ctx, errand{
		what: what,
		local: func(ctx context.Context) (err error) {
			ok, err = p.localReadings(ctx, props)
			return err
		},
		remote: func(ctx context.Context, address string) (err error) {
			if r.Hops >= maxHops {
				return passedOn(what, address)
			}
			next := *r
			next.Hops++
			ok, err = transport.Call[transport.EmitTelemetryOk](ctx, p.slow, address, &next)
			return err
		},
	})
	return ok, err
}

// localReadings proposes what the outbox has room for. The error says that nothing was done.
func (p *proposer) localReadings(ctx context.Context, props []proposal) (*transport.EmitTelemetryOk, error) {
	defer p.beats.begin()()
	if halted := p.halted.Load(); halted != nil {
		return nil, halted
	}
	ok := &transport.EmitTelemetryOk{}
	var commands [][]byte
	for i := range props {
		switch _, pass, err := p.admit.Pass(&props[i].command); {
		case err != nil:
			return nil, err
		case pass:
			commands = append(commands, props[i].bytes)
		default:
			ok.Taken++
		}
	}
	failed := 0
	var why error
	for _, proposed := range p.group.ProposeAllTelemetry(ctx, commands) {
		err := p.count(ok, proposed)
		if err != nil && outcomeOf(err) == outcomeNotDone {
			failed, why = failed+1, err
		}
	}
	if failed > 0 && failed == len(commands) {
		return nil, why
	}
	return ok, nil
}

// count adds the outcome of one reading; the error says that there is no answer.
func (p *proposer) count(ok *transport.EmitTelemetryOk, proposed raftgroup.Proposal) error {
	answer, err := fsm.Answer{}, proposed.Err
	if err == nil {
		answer, err = answerOf(proposed.Result)
	}
	p.stats.proposed(answer, err)
	switch {
	case err != nil:
		ok.Unknown++
	case answer.Err == nil:
		ok.Taken++
	default:
		if ok.Refused++; ok.Reason == "" {
			ok.Reason = answer.Err.Error()
		}
	}
	return err
}
