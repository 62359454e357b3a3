package master

import (
	"context"
	"reflect"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// dispatch is the table of the grid protocol: message type → handler. What is not in it belongs to the storage protocol, and
// to the gateway.
type dispatch map[reflect.Type]func(ctx context.Context, s *transport.Session, req any) (any, error)

// on adds the handler of requests of type T.
func on[T any](d dispatch, handle func(ctx context.Context, req *T) (any, error)) {
	d[reflect.TypeFor[*T]()] = func(ctx context.Context, _ *transport.Session, req any) (any, error) {
		return handle(ctx, req.(*T))
	}
}

// onStream adds the handler of a stream: its messages go through the session, and its end is always an error.
func onStream[T any](d dispatch, handle func(ctx context.Context, to sender, req *T) error) {
	d[reflect.TypeFor[*T]()] = func(ctx context.Context, s *transport.Session, req any) (any, error) {
		return nil, handle(ctx, s, req.(*T))
	}
}

// result is a handler's reply, or its error alone.
func result[T any](ok *T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return ok, nil
}

// routes is the one table of what a master answers on its grid port, beside the storage protocol.
func (c *core) routes() dispatch {
	d := dispatch{}
	on(d, func(ctx context.Context, r *transport.RegisterAgent) (any, error) {
		answer, err := c.agents.Register(ctx, r, string(r.AgentID))
		return result(&transport.RegisterAgentOk{GridID: c.founding.GridID, Seq: answer.Seq}, err)
	})
	on(d, func(ctx context.Context, r *transport.Heartbeat) (any, error) {
		answer, err := c.agents.Heartbeat(ctx, r, string(r.AgentID))
		return result(&transport.HeartbeatOk{Seq: answer.Seq}, err)
	})
	on(d, func(ctx context.Context, r *transport.UnregisterAgent) (any, error) {
		answer, err := c.agents.Unregister(ctx, r, "grid")
		return result(&transport.UnregisterAgentOk{Seq: answer.Seq}, err)
	})
	on(d, func(ctx context.Context, r *transport.ListAgents) (any, error) {
		return result(c.agents.List(ctx, r.Reading))
	})
	on(d, func(ctx context.Context, r *transport.GetAgent) (any, error) {
		return result(c.agents.Get(ctx, r.AgentID, r.Reading))
	})
	on(d, func(ctx context.Context, r *transport.ListNodes) (any, error) {
		return result(c.agents.Nodes(ctx, r.Reading))
	})
	on(d, func(ctx context.Context, r *transport.RaftPeers) (any, error) { return result(c.peers(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.AddMaster) (any, error) { return result(c.council.Add(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.RemoveMaster) (any, error) {
		return result(c.council.Remove(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.TransferLeadership) (any, error) {
		return result(c.council.Transfer(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.IsMember) (any, error) {
		return result(c.council.IsMember(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.TakeSnapshot) (any, error) { return result(c.snapshot(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.AnnounceMaster) (any, error) {
		return result(c.announced(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.AssignReplica) (any, error) {
		return result(c.assignReplica(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.GetShardMap) (any, error) { return result(c.shardMap(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.EmitEvents) (any, error) { return result(c.emit(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.EmitTelemetry) (any, error) {
		return result(c.emitTelemetry(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.Propose) (any, error) { return result(c.propose(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.Forward) (any, error) {
		return result(c.proposer.Forwarded(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.ReadIndex) (any, error) { return result(c.readIndex(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.ListEvents) (any, error) { return result(c.listEvents(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.TxnOutcome) (any, error) { return result(c.txnOutcome(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.ListTxns) (any, error) { return result(c.listTxns(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.ResolveTxn) (any, error) { return result(c.txns.Resolve(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.AssociationType) (any, error) {
		return result(c.associationType(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.AssociationTypes) (any, error) {
		return result(c.associationTypes(ctx, r))
	})
	on(d, func(ctx context.Context, r *transport.GetSetting) (any, error) { return result(c.setting(ctx, r)) })
	on(d, func(ctx context.Context, r *transport.GetFeed) (any, error) { return result(c.feedStatus(ctx, r)) })
	on(d, func(_ context.Context, r *transport.StateDigests) (any, error) { return c.stateDigests(r), nil })
	onStream(d, c.watches.ShardMap)
	onStream(d, c.watches.Assignments)
	onStream(d, c.watches.Events)
	return d
}

// Handle answers one request of either protocol.
func (c *core) Handle(ctx context.Context, s *transport.Session, req any) (any, error) {
	if err := c.service.Err(); err != nil {
		return nil, err
	}
	handle, ours := c.table[reflect.TypeOf(req)]
	if !ours {
		return c.gateway.Handle(ctx, s, req)
	}
	ctx, cancel := c.service.While(ctx)
	defer cancel()
	ok, err := handle(ctx, s, req)
	if out := c.service.Err(); out != nil { // what it read may be wrong
		return nil, &event.Error{Kind: event.KindUnknownOutcome, Op: "serve", Message: out.Error()}
	}
	return ok, err
}

// readIndex answers another master's reader.
func (c *core) readIndex(ctx context.Context, r *transport.ReadIndex) (*transport.ReadIndexOk, error) {
	index, term, err := c.reads.Index(ctx, indexWanted{hops: r.Hops, unconfirmed: r.Unconfirmed})
	if err != nil {
		return nil, err
	}
	return &transport.ReadIndexOk{Index: index, Term: term}, nil
}

func (c *core) shardMap(ctx context.Context, r *transport.GetShardMap) (*transport.ShardMapOk, error) {
	s, err := c.reads.At(ctx, r.Reading)
	if err != nil {
		return nil, err
	}
	ok := shardMapOk(s.State)
	ok.Read = s.read
	return ok, nil
}

// associationType finds a name's number; the log gives one to a name that has none. A number never changes, so this master's
// own state is good enough to find it in.
func (c *core) associationType(ctx context.Context, r *transport.AssociationType) (*transport.AssociationTypeOk, error) {
	if number, known := c.replica.View().AssociationType(r.Name); known {
		return &transport.AssociationTypeOk{Number: number}, nil
	}
	if err := checkName("name", r.Name, true); err != nil {
		return nil, err
	}
	answer, err := c.proposer.decide(ctx, origin{actor: "grid"}, event.AssociationTypeAdded{Name: r.Name})
	if err != nil {
		return nil, err
	}
	return &transport.AssociationTypeOk{Number: uint32(answer.Value)}, nil
}

func (c *core) associationTypes(ctx context.Context, r *transport.AssociationTypes) (*transport.AssociationTypesOk, error) {
	s, err := c.reads.At(ctx, r.Reading)
	if err != nil {
		return nil, err
	}
	ok := &transport.AssociationTypesOk{Contract: s.contract()}
	for _, t := range s.AssociationTypes() {
		ok.Names, ok.Numbers = append(ok.Names, t.Name), append(ok.Numbers, t.Number)
	}
	return ok, nil
}

// setting reads one setting.
func (c *core) setting(ctx context.Context, r *transport.GetSetting) (*transport.GetSettingOk, error) {
	s, err := c.reads.At(ctx, r.Reading)
	if err != nil {
		return nil, err
	}
	value, version := s.Setting(r.Key)
	return &transport.GetSettingOk{Value: value, Version: version, Seq: s.Seq(), Epoch: s.ShardMap().Epoch, Read: s.read}, nil
}

// outcomeTimeout bounds an inquiry here. A master that finds no leader must say so while the participant, which has held its locks
// for 2 s, still has time to ask others before they are 5 s old: it gives each a second. An election takes half of it.
const outcomeTimeout = 900 * time.Millisecond

// txnOutcome is decided by the leader, so that "undecided" becomes "aborted" at once.
func (c *core) txnOutcome(ctx context.Context, r *transport.TxnOutcome) (ok *transport.TxnOutcomeOk, err error) {
	ctx, cancel := context.WithTimeout(ctx, outcomeTimeout)
	defer cancel()
	err = c.leading.Do(ctx, errand{
		what: "settle transaction " + r.TxnID.String(),
		safe: true,
		local: func(ctx context.Context) (err error) {
			ok, err = c.txns.Outcome(ctx, r)
			return err
		},
		remote: func(ctx context.Context, address string) (err error) {
			if r.Hops >= maxHops {
				return passedOn("settle transaction", address)
			}
			next := *r
			next.Hops++
			ok, err = transport.Call[transport.TxnOutcomeOk](ctx, c.proposer.pool, address, &next)
			return err
		},
	})
	return ok, err
}
