package master

import (
	"fmt"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
)

const (
	// maxMembers of the configuration: five, and one more while one of them is replaced.
	maxMembers = 6
	// safeVoters is what a grid keeps without being told otherwise: the fewest that survive the loss of one.
	safeVoters = 3
	// promoteAfter is how long a learner must have been within 100 entries of the leader (safety S14).
	promoteAfter = 5 * time.Second
	// minDeadAfter is longer than a machine takes to start again.
	minDeadAfter = 10 * time.Minute
	// contactWindow is how recent the contact with a master must be for it to count as answering.
	contactWindow = time.Second
)

// removal is what an operator wants.
type removal struct {
	id     string // of a master or of a replica
	shrink bool   // fewer than safeVoters may be left although the voter is well
	now    time.Time
}

// planRemoval is the replica that a removal means, or why it is not removed.
func planRemoval(peers []raftgroup.PeerStatus, self event.ReplicaID, r removal) (event.ReplicaID, error) {
	const op = "remove master"
	refused := func(format string, args ...any) error {
		return &event.Error{Kind: event.KindRefused, Op: op, Message: fmt.Sprintf(format, args...)}
	}
	var meant, silent []raftgroup.PeerStatus
	for _, p := range peers {
		if string(p.ID) != r.id && p.ID.Owner() != r.id {
			continue
		}
		meant = append(meant, p)
		if !inContact(p, self, r.now) {
			silent = append(silent, p)
		}
	}
	switch {
	case len(meant) == 0:
		return "", unknownMaster(op, r.id, peers)
	case len(meant) > 1 && len(silent) == 1: // a lost disk that was replaced
		meant = silent
	case len(meant) > 1:
		return "", refused("%s has the replicas %s; name the one to remove", r.id, replicasOf(meant))
	}
	target := meant[0]
	left := len(voters(peers)) - 1
	switch {
	case target.Suffrage != raftgroup.Voter:
	case left == 0:
		return "", refused("%s is the only voter", target.ID)
	case left < safeVoters && inContact(target, self, r.now) && !r.shrink:
		return "", refused("%s is well, and %d voters would be left, which survive no loss; add its replacement first, or say --shrink to make the grid smaller", target.ID, left)
	}
	return target.ID, nil
}

// upkeep is what the leader knows when it looks after the configuration.
type upkeep struct {
	peers     []raftgroup.PeerStatus
	self      event.ReplicaID
	now       time.Time
	grace     time.Time     // silence counts from here at the earliest
	deadAfter time.Duration // 0: nobody is removed for being silent
}

// tending is one change that the leader makes by itself; at most one field is set.
type tending struct {
	promote event.ReplicaID
	remove  event.ReplicaID
	silent  time.Duration // of the removed
}

// planUpkeep promotes a learner that has caught up, or removes a master that has been silent for too long. A voter is removed
// only while at least safeVoters, a majority of them in contact, go on without it. One change at a time.
func planUpkeep(u upkeep) tending {
	for _, p := range u.peers {
		if p.Suffrage == raftgroup.Learner && !p.NearSince.IsZero() && u.now.Sub(p.NearSince) >= promoteAfter {
			return tending{promote: p.ID}
		}
	}
	if u.deadAfter <= 0 {
		return tending{}
	}
	for _, p := range u.peers {
		silent := u.now.Sub(later(p.LastContact, u.grace))
		if p.ID != u.self && silent >= u.deadAfter && (p.Suffrage == raftgroup.Learner || u.canSpare(p.ID)) {
			return tending{remove: p.ID, silent: silent}
		}
	}
	return tending{}
}

// canSpare tells whether the voters without one are enough, and a majority of them well.
func (u upkeep) canSpare(id event.ReplicaID) bool {
	left, well := 0, 0
	for _, p := range voters(u.peers) {
		if p.ID == id {
			continue
		}
		left++
		if inContact(p, u.self, u.now) {
			well++
		}
	}
	return left >= safeVoters && well > left/2
}

func voters(peers []raftgroup.PeerStatus) []raftgroup.PeerStatus {
	var out []raftgroup.PeerStatus
	for _, p := range peers {
		if p.Suffrage == raftgroup.Voter {
			out = append(out, p)
		}
	}
	return out
}

// inContact tells, on the leader, whether a replica answers; the leader itself does.
func inContact(p raftgroup.PeerStatus, self event.ReplicaID, now time.Time) bool {
	return p.ID == self || !p.LastContact.IsZero() && now.Sub(p.LastContact) < contactWindow
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func contains(peers []raftgroup.PeerStatus, id event.ReplicaID) bool {
	for _, p := range peers {
		if p.ID == id {
			return true
		}
	}
	return false
}

func unknownMaster(op, id string, peers []raftgroup.PeerStatus) error {
	return &event.Error{Kind: event.KindNotFound, Op: op, Message: fmt.Sprintf("%s is no member; there are %s", id, replicasOf(peers))}
}

func replicasOf(peers []raftgroup.PeerStatus) string {
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = string(p.ID)
	}
	return strings.Join(names, ", ")
}
