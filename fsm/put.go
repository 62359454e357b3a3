package fsm

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The put functions are the only writers of their tables: they keep counts and indexes true.

func (s *State) putAgent(a Agent) {
	if old := s.agents.get(a.ID); old != nil && old.Status == AgentHealthy {
		s.counts.healthyAgents--
	}
	if a.Status == AgentHealthy {
		s.counts.healthyAgents++
	}
	s.agents.set(a.ID, a)
}

func (s *State) dropAgent(id event.AgentID) {
	if old := s.agents.get(id); old != nil && old.Status == AgentHealthy {
		s.counts.healthyAgents--
	}
	s.agents.delete(id)
}

func (s *State) putNode(n Node) {
	s.uncountNode(n.Number)
	s.countNode(&n)
	s.nodes.set(n.Number, n)
	s.index.nodesOf.add(agentNode{agent: n.AgentID, number: n.Number})
}

func (s *State) dropNode(number uint64) {
	n := s.nodes.get(number)
	if n == nil {
		return
	}
	s.uncountNode(number)
	s.index.nodesOf.remove(agentNode{agent: n.AgentID, number: number})
	s.nodes.delete(number)
}

func (s *State) countNode(n *Node) {
	if n.Desired {
		s.counts.desiredNodes++
		if n.Status == NodeRunning {
			s.counts.runningNodes++
		}
	}
}

func (s *State) uncountNode(number uint64) {
	if n := s.nodes.get(number); n != nil && n.Desired {
		s.counts.desiredNodes--
		if n.Status == NodeRunning {
			s.counts.runningNodes--
		}
	}
}

func (s *State) putShard(sh Shard) {
	if old := s.shards.get(sh.Number); old != nil {
		s.countShard(old, ^uint32(0)) // minus one
	}
	s.countShard(&sh, 1)
	s.shards.set(sh.Number, sh)
}

func (s *State) countShard(sh *Shard, by uint32) {
	if sh.Lost {
		s.counts.lostShards += by
	}
	if sh.Live < s.wanted(sh) {
		s.counts.shortShards += by
	}
}

func (s *State) putMaster(m Master) {
	s.uncountMaster(m.ID)
	if m.Unreachable {
		s.counts.unreachable++
	}
	s.masters.set(m.ID, m)
}

func (s *State) dropMaster(id event.MasterID) {
	s.uncountMaster(id)
	s.masters.delete(id)
}

func (s *State) uncountMaster(id event.MasterID) {
	if m := s.masters.get(id); m != nil && m.Unreachable {
		s.counts.unreachable--
	}
}

func (s *State) putTxn(t Txn) {
	s.unindexTxn(t.ID)
	s.indexTxn(&t)
	s.txns.set(t.ID, t)
}

func (s *State) dropTxn(id event.TxnID) {
	s.unindexTxn(id)
	s.txns.delete(id)
}

func (s *State) indexTxn(t *Txn) {
	s.index.byBegin.add(txnBegin{begin: t.Begin, id: t.ID})
	if !t.Completed {
		s.index.open.add(txnSeq{seq: t.Seq, id: t.ID})
	}
}

func (s *State) unindexTxn(id event.TxnID) {
	if t := s.txns.get(id); t != nil {
		s.index.byBegin.remove(txnBegin{begin: t.Begin, id: id})
		s.index.open.remove(txnSeq{seq: t.Seq, id: id})
	}
}

func (s *State) putRequest(q request) {
	if old := s.requests.get(q.ID); old != nil {
		s.index.byIssued.remove(issuedKey{issued: old.Issued, id: q.ID})
	}
	s.index.byIssued.add(issuedKey{issued: q.Issued, id: q.ID})
	s.requests.set(q.ID, q)
}
