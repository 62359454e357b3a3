package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/sutra-grid/sutra-grid/internal/fault"
)

// peers is raft's transport: its own NetworkTransport with five changes. A replica's raft address is its id, so that no
// vote and no configuration holds a place in the network. Answers are noted in contacts. Of the incoming heartbeats only
// those of the current term, at a follower, go past the main loop (safety S24, termGuard). Entries that arrive are
// checked before raft sees them. And a replica that comes back gets its entries at once (away).
type peers struct {
	*raft.NetworkTransport
	self     raft.ServerAddress
	group    string
	contacts *contacts
	terms    *termGuard
	log      *logStore

	beside   func(raft.RPC) // raft's handler of heartbeats beside its main loop; set once, before any connection
	incoming chan raft.RPC  // raft's Consumer
	done     chan struct{}
	close    func() error  // once
	prompt   time.Duration // a failure that took longer is not tried again
	lapse    *lapse
	away     *away
	alarms   *slog.Logger
	fresh    freshness
	applied  *progress // the FSM's
	pumped   sync.WaitGroup
	unheard  unheard
	raft     atomic.Pointer[raft.Raft] // nil until the replica runs
}

var (
	_ raft.Transport   = (*peers)(nil)
	_ raft.WithPreVote = (*peers)(nil)
	_ raft.WithClose   = (*peers)(nil)
)

func newPeers(nt *raft.NetworkTransport, c *Config, known *contacts, s *stores, applied *progress) *peers {
	p := &peers{
		NetworkTransport: nt, self: raft.ServerAddress(c.LocalID), group: c.GroupID, contacts: known, terms: s.stable.terms, log: s.log,
		incoming: make(chan raft.RPC), done: make(chan struct{}), prompt: c.Timeouts.Heartbeat, alarms: c.Log, applied: applied,
	}
	p.lapse = &lapse{peers: p, free: make(chan struct{}, maxHeld), after: c.Timeouts.Heartbeat + c.Timeouts.Heartbeat/4}
	p.away = &away{peers: p, beats: map[raft.ServerID]*broadcast{}}
	p.close = sync.OnceValue(func() error {
		close(p.done)
		err := nt.Close()
		p.pumped.Wait()
		return err
	})
	return p
}

// start lets requests in; until then they wait.
func (p *peers) start(r *raft.Raft) {
	p.raft.Store(r)
	p.pumped.Go(p.pump)
}

// pump brings requests to the main loop, except those with a damaged or oversized entry: they must not cost the follower
// the entries that raft deletes before it stores new ones.
func (p *peers) pump() {
	for {
		select {
		case rpc := <-p.NetworkTransport.Consumer():
			if err := errors.Join(p.admissible(rpc.Command), p.entitled(rpc.Command)); err != nil {
				rpc.Respond(nil, err)
				continue
			}
			if p.lapse.hold(rpc) {
				continue
			}
			if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
				p.fresh.heard(time.Now(), req.Term, req.LeaderCommitIndex, p.applied.get())
			}
			p.toMainLoop(p.lapse.admit(p.joinedToSnapshot(rpc)))
		case <-p.done:
			return
		}
	}
}

func (p *peers) admissible(command any) error {
	req, ok := command.(*raft.AppendEntriesRequest)
	if !ok {
		return nil
	}
	for _, l := range req.Entries {
		if len(l.Data) > MaxEntryBytes {
			return fmt.Errorf("%s refuses entry %d: %d bytes, the limit is %d", p.self, l.Index, len(l.Data), MaxEntryBytes)
		}
		if err := checkSeal(p.group, l); err != nil {
			return fmt.Errorf("%s refuses: %w", p.self, err)
		}
	}
	return nil
}

// entitled refuses what concerns elections where raft does not. A replica that has no configuration, since it joins and was
// not sent anything yet, would vote for anybody; and TimeoutNow makes a candidate of whoever is asked.
func (p *peers) entitled(command any) error {
	switch command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		if len(p.servers()) == 0 {
			return fmt.Errorf("%s has no configuration yet and votes for nobody", p.self)
		}
	case *raft.TimeoutNowRequest:
		if !slices.ContainsFunc(p.servers(), func(s raft.Server) bool { return s.Address == p.self && s.Suffrage == raft.Voter }) {
			return fmt.Errorf("%s is no voter and does not stand for election", p.self)
		}
		if state := p.raft.Load().State(); state != raft.Follower { // it has come twice
			return fmt.Errorf("%s is a %v and needs not be told", p.self, state)
		}
	}
	return nil
}

// servers is the latest configuration.
func (p *peers) servers() []raft.Server {
	return p.raft.Load().GetConfiguration().Configuration().Servers
}

// joinedToSnapshot spares raft a comparison that it cannot make and we have (logStore.follows).
func (p *peers) joinedToSnapshot(rpc raft.RPC) raft.RPC {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || !p.log.follows(position{req.PrevLogEntry, req.PrevLogTerm}) {
		return rpc
	}
	bare := *req
	bare.PrevLogEntry, bare.PrevLogTerm = 0, 0
	rpc.Command = &bare
	return rpc
}

func (p *peers) toMainLoop(rpc raft.RPC) {
	select {
	case p.incoming <- rpc:
	case <-p.done:
	}
}

// Consumer implements raft.Transport.
func (p *peers) Consumer() <-chan raft.RPC { return p.incoming }

// SetHeartbeatHandler implements raft.Transport. The NetworkTransport brings requests that carry nothing but a term here
// instead of to the Consumer.
func (p *peers) SetHeartbeatHandler(handle func(raft.RPC)) {
	p.beside = handle
	p.NetworkTransport.SetHeartbeatHandler(p.heartbeat)
}

func (p *peers) heartbeat(rpc raft.RPC) {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	r := p.raft.Load()
	if fault.Broken(fault.HeartbeatsBesideTerm) {
		p.beside(rpc)
		return
	}
	if ok && r != nil && p.terms.while(req.Term, func() bool {
		return r.CurrentTerm() == req.Term && r.State() == raft.Follower
	}, func() { p.beside(rpc) }) {
		return
	}
	p.toMainLoop(rpc)
}

// LocalAddr implements raft.Transport.
func (p *peers) LocalAddr() raft.ServerAddress { return p.self }

// EncodePeer implements raft.Transport.
func (p *peers) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer implements raft.Transport.
func (p *peers) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// AppendEntries implements raft.Transport.
func (p *peers) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if fault.Broken(fault.AckBeforeCommit) && !isHeartbeat(req) {
		p.unheard.send(id, func() error {
			return p.NetworkTransport.AppendEntries(id, target, req, new(raft.AppendEntriesResponse))
		})
		*resp = raft.AppendEntriesResponse{Term: req.Term, LastLog: matched(req), Success: true}
		p.answered(id, req.Term, answer{match: matched(req), last: p.lastIndex()})
		return nil
	}
	var got raft.AppendEntriesResponse // raft's heartbeats reuse theirs
	var sent uint64
	run := func() error {
		return p.again(func() error {
			sent = p.contacts.stamp()
			return p.NetworkTransport.AppendEntries(id, target, req, &got)
		})
	}
	var err error
	if isHeartbeat(req) {
		err = run()
		p.away.beaten(id, req.Term, err)
	} else {
		err = p.away.hold(id, req.Term, run)
	}
	if err != nil {
		return err
	}
	*resp = got
	if fault.Broken(fault.ReadByEarlierAnswers) {
		sent = p.contacts.stamp()
	}
	if got.Success && got.Term == req.Term {
		p.answered(id, req.Term, answer{sent: sent, match: matched(req), last: p.lastIndex()})
	}
	return nil
}

// answered notes an answer, and raises the alarm about a follower that answers and gets no further: raft's own log says
// nothing while heartbeats pass (raft #612). Peers shows the same.
func (p *peers) answered(id raft.ServerID, term uint64, a answer) {
	if !p.contacts.answered(id, term, a) {
		return
	}
	known := p.contacts.of(id, term)
	attrs := []any{"group", p.group, "replica", id, "holds", known.match, "leader holds", a.last}
	if known.stuck {
		p.alarms.Error("a follower answers heartbeats and gets no further: restart it", append(attrs, "for", p.contacts.stall)...)
		return
	}
	p.alarms.Info("a follower that stood still moves again", attrs...)
}

// lastIndex is the end of this replica's log. Before raft has told it counts as infinitely far.
func (p *peers) lastIndex() uint64 {
	if r := p.raft.Load(); r != nil {
		return r.LastIndex()
	}
	return math.MaxUint64
}

// matched is the last entry that success says the follower holds.
func matched(req *raft.AppendEntriesRequest) uint64 {
	if n := len(req.Entries); n > 0 {
		return req.Entries[n-1].Index
	}
	return req.PrevLogEntry // 0 in a heartbeat
}

// InstallSnapshot implements raft.Transport.
func (p *peers) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	p.contacts.feeding(id, req.Term, 1)
	defer p.contacts.feeding(id, req.Term, -1)
	sent := p.contacts.stamp()
	if err := p.away.hold(id, req.Term, func() error {
		return p.NetworkTransport.InstallSnapshot(id, target, req, resp, data)
	}); err != nil {
		return err
	}
	if resp.Success && resp.Term == req.Term {
		p.answered(id, req.Term, answer{sent: sent, match: req.LastLogIndex, last: p.lastIndex()})
	}
	return nil
}

// Close implements raft.WithClose.
func (p *peers) Close() error { return p.close() }
