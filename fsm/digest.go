package fsm

import "crypto/sha256"

// Digest is SHA-256 over the head of the history and the sums of its objects' hashes. Replicas with the same feed have the
// same; it costs one hash, whatever the size of the state (safety S12).
func (s *State) Digest() [32]byte {
	b := appendObject([]byte{byte(secHead)}, &s.head)
	for _, sum := range []lanes{
		s.agents.sum, s.nodes.sum, s.shards.sum, s.txns.sum, s.masters.sum, s.settings.sum, s.types.sum, s.sinks.sum,
	} {
		b = sum.append(b)
	}
	if s.head.Level >= CheckLevel {
		b = appendObject(append(b, byte(secCheck)), &s.check)
	}
	if s.head.Level >= MembersLevel {
		b = s.members.sum.append(append(b, byte(secMembers)))
	}
	return sha256.Sum256(b)
}

// LocalDigest is the same over the local state. Replicas with the same log have the same.
func (s *State) LocalDigest() [32]byte {
	b := appendObject([]byte{byte(secMark)}, &s.mark)
	for _, sum := range []lanes{
		s.pulses.sum, s.requests.sum, s.emitters.sum, s.cursors.sum, s.backlog.sum,
	} {
		b = sum.append(b)
	}
	return sha256.Sum256(b)
}
