package workload

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/history"
	"github.com/sutra-grid/sutra-grid/transport"
)

// registers is W1: replicated settings are written, written on condition of their version, and read, and the shard map is read. Each
// client asks one master alone and waits for long: one that follows the leader never sees what a deposed one says.
type registers struct {
	*load
	drawn atomic.Int64
}

const (
	sharers    = 5   // clients of a setting
	keyOps     = 200 // before its clients go on with another one
	keys       = 4   // settings of each group of clients, in turn
	mostGroups = 2   // on a grid that others use
	slots      = 100 // runs have settings of their own; there are at most 1,024 on a grid
	writeLimit = 5 * time.Second
	mapKey     = "the shard map"
)

func newRegisters(env Env) Workload {
	return &registers{load: newLoad(env, "W1")}
}

// newMembership is W10: what W1 does must hold while masters are removed, added and replaced.
func newMembership(env Env) Workload {
	return &registers{load: newLoad(env, "W10")}
}

// key is a setting of a group of clients.
func (r *registers) key(group, k int) string {
	return fmt.Sprintf("%s.%d.%d", r.slot(), group, k)
}

func (r *registers) slot() string { return fmt.Sprintf("fault.%d", sumOf(r.name)%slots) }

// Leaves implements Workload. Few runs have the same settings, and not at the same time.
func (r *registers) Leaves() []string { return []string{"settings " + r.slot() + ".*"} }

// groups is how many there are; the last clients may share with the first. The settings that a grid of others may have are not ours to fill.
func (r *registers) groups() int {
	n := max(1, len(r.clients)/sharers)
	if r.env.Grid.Layout().Given != nil {
		n = min(n, mostGroups)
	}
	return n
}

// Setup implements Workload: what the settings hold now is what their histories begin with.
func (r *registers) Setup(ctx context.Context) error {
	if err := r.announce(struct{}{}); err != nil {
		return err
	}
	return r.readAll(ctx, r.clients[:1])
}

// readAll lets clients read every setting.
func (r *registers) readAll(ctx context.Context, users []*user) error {
	for _, u := range users {
		for group := range r.groups() {
			for k := range keys {
				for u.readSetting(ctx, r.key(group, k)) != history.OK {
					if ctx.Err() != nil {
						return fmt.Errorf("%s does not read settings: %w", u.masters[0], context.Cause(ctx))
					}
					wait(ctx, time.Duration(50+u.rng.IntN(100))*time.Millisecond)
				}
			}
		}
	}
	return nil
}

// Run implements Workload.
func (r *registers) Run(ctx context.Context) error {
	r.each(ctx, func(ctx context.Context, u *user) history.Outcome {
		turn := int(r.drawn.Add(1)) / (keyOps * r.groups()) % keys
		key := r.key(u.index/sharers%r.groups(), turn)
		switch n := u.rng.IntN(100); {
		case n < 15:
			return u.writeSetting(ctx, history.RegisterOp{Key: key, Kind: history.RegisterWrite})
		case n < 35:
			if version, known := u.seen[key]; known {
				return u.writeSetting(ctx, history.RegisterOp{Key: key, Kind: history.RegisterCAS, Expect: version})
			}
		case n < 45:
			return u.readMap(ctx)
		}
		return u.readSetting(ctx, key)
	})
	return nil
}

// Settle implements Workload: every master tells every setting.
func (r *registers) Settle(ctx context.Context) error {
	if err := r.readAll(ctx, r.clients[:min(len(r.clients), len(r.env.Grid.Layout().Masters))]); err != nil {
		return err
	}
	r.settled()
	return nil
}

// ask sends a request once, to the client's own master unless op says whom, and records it.
func (u *user) ask(ctx context.Context, limit time.Duration, op history.RegisterOp, req any, answer func(reply any) history.RegisterAnswer) history.Outcome {
	op.At = cmp.Or(op.At, u.masters[0])
	call := u.begin(func(r *history.Recorder) uint64 { return r.InvokeRegister(u.number, op) })
	one, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	reply, err := u.pool.Call(one, op.At, req)
	outcome := history.Of(err)
	u.kind = history.KindOf(err)
	absent := op.Kind == history.RegisterRead && u.kind == event.KindNotFound
	switch {
	case absent: // which is an answer
		u.end(call, history.OK, func(r *history.Recorder) { r.RegisterOK(call, history.RegisterAnswer{}) })
		return history.OK
	case outcome == history.OK:
		a := answer(reply)
		u.saw(op.Key, a.Version)
		u.end(call, outcome, func(r *history.Recorder) { r.RegisterOK(call, a) })
	case outcome == history.Fail:
		refused := 0
		if op.Kind == history.RegisterCAS && u.kind == event.KindConflict {
			refused = 1
			delete(u.seen, op.Key)
		}
		u.end(call, outcome, func(r *history.Recorder) { r.Fail(call, refused, err.Error()) })
	case op.Kind == history.RegisterRead: // it has no effect
		u.end(call, outcome, func(r *history.Recorder) { r.Unknown(call, err.Error()) })
	default:
		u.lost(call, err)
	}
	return outcome
}

// saw notes the version that the client knows a setting to have.
func (u *user) saw(key string, version uint64) {
	if u.seen == nil {
		u.seen = map[string]uint64{}
	}
	u.seen[key] = version
}

func (u *user) readSetting(ctx context.Context, key string) history.Outcome {
	return u.ask(ctx, u.env.ReadTimeout, history.RegisterOp{Key: key, Kind: history.RegisterRead}, &transport.GetSetting{Key: key}, func(reply any) history.RegisterAnswer {
		ok := reply.(*transport.GetSettingOk)
		return history.RegisterAnswer{Value: ok.Value, Version: ok.Version, Seq: ok.Seq, Epoch: ok.Epoch}
	})
}

// writeSetting gives a setting a value that nothing else has.
func (u *user) writeSetting(ctx context.Context, op history.RegisterOp) history.Outcome {
	op.Value = u.name + "-" + u.next()
	change := event.SettingChanged{Key: op.Key, Value: op.Value}
	if op.Kind == history.RegisterCAS {
		change.Version = op.Expect + 1
	}
	body, err := event.AppendBody(nil, change)
	if err != nil { // it is as small as it is always
		return history.Fail
	}
	req := &transport.Propose{RequestID: u.requestID(), Issued: time.Now().UnixMicro(), Actor: "gridfault", Type: event.TypeSettingChanged, Body: body}
	return u.ask(ctx, writeLimit, op, req, func(reply any) history.RegisterAnswer {
		ok := reply.(*transport.ProposeOk)
		return history.RegisterAnswer{Version: ok.Value, Seq: ok.Seq, Epoch: ok.Epoch}
	})
}

// readMap reads the shard map as a register that others write: its version is its epoch.
func (u *user) readMap(ctx context.Context) history.Outcome {
	op := history.RegisterOp{Key: mapKey, Kind: history.RegisterRead, Foreign: true}
	return u.ask(ctx, u.env.ReadTimeout, op, &transport.GetShardMap{}, func(reply any) history.RegisterAnswer {
		ok := reply.(*transport.ShardMapOk)
		text, err := json.Marshal(ok.Map)
		if err != nil {
			text = []byte(err.Error())
		}
		sum := fnv.New64a()
		_, _ = sum.Write(text) // never fails
		return history.RegisterAnswer{Value: fmt.Sprintf("%x", sum.Sum64()), Version: ok.Map.Epoch.Seq, Seq: ok.Seq, Epoch: ok.Map.Epoch}
	})
}

// Check implements Workload.
func (r *registers) Check(l *history.Log) []history.Report {
	return append(checkRegisters(l), Complete(l))
}

func checkRegisters(l *history.Log) []history.Report {
	return []history.Report{history.Registers(l.Registers), history.Sessions(l.Registers)}
}
