package master

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// maxPeers bounds a list of peers: more than a grid can have.
const maxPeers = 64

// Peer is one master of the configured list: its id and the addresses (host:port) of its three ports.
type Peer struct {
	ID   event.MasterID
	Raft string
	HTTP string
	Grid string
}

// Peers is the list of all masters, ordered by id. Every master of a grid is started with the same list.
type Peers []Peer

// ParsePeers reads "master-1=host:7000/7001/7002,master-2=…": per master the ports for raft, HTTP and grid on one host.
// Where they are on different hosts, a later element is a whole host:port.
func ParsePeers(s string) (Peers, error) {
	var list Peers
	var faults []error
	for _, entry := range strings.Split(s, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		p, err := parsePeer(entry)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Peer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list, errors.Join(faults...)
}

func parsePeer(entry string) (Peer, error) {
	fault := func(why string) (Peer, error) {
		return Peer{}, fmt.Errorf("peer %q: %s; want id=host:raft/http/grid, for example master-1=10.0.0.1:7000/7001/7002", entry, why)
	}
	id, addresses, found := strings.Cut(entry, "=")
	if !found || id == "" {
		return fault("no id before =")
	}
	parts := strings.Split(addresses, "/")
	if len(parts) != 3 {
		return fault(fmt.Sprintf("%d ports instead of 3", len(parts)))
	}
	host, _, err := net.SplitHostPort(parts[0])
	if err != nil {
		return fault(err.Error())
	}
	for i, part := range parts[1:] {
		if !strings.Contains(part, ":") {
			part = net.JoinHostPort(host, part)
		}
		if _, _, err := net.SplitHostPort(part); err != nil {
			return fault(err.Error())
		}
		parts[i+1] = part
	}
	return Peer{ID: event.MasterID(id), Raft: parts[0], HTTP: parts[1], Grid: parts[2]}, nil
}

// Find looks a master up by its id.
func (p Peers) Find(id event.MasterID) (Peer, bool) {
	for _, peer := range p {
		if peer.ID == id {
			return peer, true
		}
	}
	return Peer{}, false
}

// Others is the list without one master.
func (p Peers) Others(id event.MasterID) Peers {
	return slices.DeleteFunc(slices.Clone(p), func(peer Peer) bool { return peer.ID == id })
}

// String is the canonical form: masters that form a grid compare it, so it depends on the list alone.
func (p Peers) String() string {
	entries := make([]string, len(p))
	for i, peer := range p {
		entries[i] = fmt.Sprintf("%s=%s/%s/%s", peer.ID, peer.Raft, peer.HTTP, peer.Grid)
	}
	return strings.Join(entries, ",")
}

// validate reports everything that is wrong with the list. A grid is formed by an odd number of masters; later it may have
// any number for a while, and the list of one that joins may be of some of them.
func (p Peers) validate(forming bool) []error {
	var faults []error
	switch n := len(p); {
	case n == 0 || n > maxPeers:
		faults = append(faults, fmt.Errorf("peers: %d masters listed; want 1 to %d", n, maxPeers))
	case forming && (n%2 == 0 || n > 5):
		faults = append(faults, fmt.Errorf("peers: %d masters listed; a grid is formed by 1, 3 or 5", n))
	}
	owner := map[string]event.MasterID{}
	for i, peer := range p {
		if i > 0 && p[i-1].ID == peer.ID {
			faults = append(faults, fmt.Errorf("peers: %s is listed twice", peer.ID))
		}
		for _, address := range []string{peer.Raft, peer.HTTP, peer.Grid} {
			if other, taken := owner[address]; taken {
				faults = append(faults, fmt.Errorf("peers: %s and %s both use %s", other, peer.ID, address))
			}
			owner[address] = peer.ID
		}
	}
	return faults
}
