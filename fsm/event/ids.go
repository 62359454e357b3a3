package event

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// AgentID names an agent, as configured: "agent-1".
type AgentID string

// NodeID names a storage node, as given by the masters and never reused: "node-1".
type NodeID string

// ShardID names a shard, as given by the masters and never reused: "shard-0".
type ShardID string

// MasterID names a master, as configured: "master-1".
type MasterID string

// ReplicaID is a raft server id, "<owner id>.<store id>": the owner is a MasterID or a NodeID, the store id is
// 32 hexadecimal digits made together with the data directory. A lost disk is a new ReplicaID (safety S1).
type ReplicaID string

// MastersGroup stands where a shard's id does when the masters' own raft group is meant.
const MastersGroup ShardID = "masters"

// NewReplicaID joins an owner's id and a store id.
func NewReplicaID(owner, storeID string) ReplicaID {
	return ReplicaID(owner + "." + storeID)
}

// Owner is the part of the id before the last dot: the master's or node's id.
func (r ReplicaID) Owner() string {
	if i := strings.LastIndexByte(string(r), '.'); i >= 0 {
		return string(r[:i])
	}
	return string(r)
}

// StoreID is the part of the id behind the last dot.
func (r ReplicaID) StoreID() string {
	return string(r[strings.LastIndexByte(string(r), '.')+1:])
}

// RequestID identifies a command or a client's write; retries carry the same one. All zero means "none".
type RequestID [16]byte

// TxnID is the request id of the transaction (safety S3).
type TxnID = RequestID

// IsZero tells whether the id is absent.
func (r RequestID) IsZero() bool { return r == RequestID{} }

// String is 32 hexadecimal digits.
func (r RequestID) String() string { return hex.EncodeToString(r[:]) }

// MarshalText writes the id as 32 hexadecimal digits (JSON).
func (r RequestID) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 32 hexadecimal digits.
func (r *RequestID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(r) {
		return fmt.Errorf("request id %q: want %d hexadecimal digits", b, 2*len(r))
	}
	_, err := hex.Decode(r[:], b)
	return err
}

// Incarnation counts the histories of a grid: rebuild, recovery from lost quorum and restore start a new one (safety S2).
type Incarnation struct {
	N      uint64  `wire:"n"`
	Random [8]byte `wire:"random"`
}
