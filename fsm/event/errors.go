package event

// Kind classifies an error across the wire; it is stable, messages are not.
type Kind string

// The kinds of errors a caller can meet. "Fail" in the comment: it surely did not happen. "Unknown": it may have.
const (
	KindInvalid        Kind = "invalid"         // the request breaks a documented rule; fail
	KindTooLarge       Kind = "too_large"       // over a documented limit; fail
	KindNotFound       Kind = "not_found"       // the named thing does not exist; fail
	KindUnknownAgent   Kind = "unknown_agent"   // register first; fail
	KindConflict       Kind = "conflict"        // the state does not allow it (already there, older term, …); fail
	KindRefused        Kind = "refused"         // policy or limit refuses it; fail
	KindNotLeader      Kind = "not_leader"      // ask Leader instead; fail
	KindWrongShard     Kind = "wrong_shard"     // refresh the map to at least Epoch and retry; fail
	KindMoving         Kind = "moving"          // the range is moving, retry; fail
	KindBusy           Kind = "busy"            // too much in flight, retry after RetryAfterMillis; fail
	KindLocked         Kind = "locked"          // a prepared transaction holds the row; fail
	KindAborted        Kind = "aborted"         // the transaction surely did not happen
	KindPrecondition   Kind = "precondition"    // a precondition did not hold, for example an association's end is absent; fail
	KindNeedsTxn       Kind = "needs_txn"       // a delete concerns several shards, which one commit cannot do; fail
	KindInDoubt        Kind = "in_doubt"        // a read met an undecided transaction until its deadline
	KindDeadline       Kind = "deadline"        // the deadline passed; unknown
	KindUnavailable    Kind = "unavailable"     // no leader or quorum could be reached before anything was sent; fail
	KindUnknownOutcome Kind = "unknown_outcome" // sent, and the answer was lost; unknown: retry with the same request id
	KindExpired        Kind = "expired"         // the request id is older than what is remembered; unknown
	KindFromTheFuture  Kind = "from_the_future" // issued lies ahead of log time; fail
	KindIDReused       Kind = "id_reused"       // same request id, other body; fail
	KindTooOld         Kind = "too_old"         // begins below the transaction horizon; fail
	KindTrimmed        Kind = "trimmed"         // the position is older than what is kept (Oldest, ResumeFrom)
	KindLagging        Kind = "lagging"         // the watcher fell behind what is kept (Oldest, ResumeFrom)
	KindOldIncarnation Kind = "old_incarnation" // another history of the grid; fail
	KindUnsupported    Kind = "unsupported"     // unknown variant or feature; fail
	KindTooStale       Kind = "too_stale"       // a stale read at a replica whose state is older than asked for (AgeMillis); ask another; fail
	KindFeedFull       Kind = "feed_full"       // the outbox is nearly full and takes only what repairs (safety S16); fail, which says nothing of an earlier request with the same id
	KindInternal       Kind = "internal"        // a defect or a failing disk; unknown
)

// Error is the one error form that survives the wire and the log. Op is the verb phrase that failed ("register
// agent"); Message says what, where and what to do. The other fields are hints of the kinds that name them.
type Error struct {
	Kind             Kind      `wire:"kind"`
	Op               string    `wire:"op"`
	Message          string    `wire:"message"`
	Leader           string    `wire:"leader,optional"`             // KindNotLeader: owner id or address of the leader, if known
	Epoch            uint64    `wire:"epoch,optional"`              // KindWrongShard: the epoch the refuser knows
	RetryAfterMillis uint32    `wire:"retry_after_millis,optional"` // KindBusy
	Txn              RequestID `wire:"txn,optional"`                // KindLocked, KindInDoubt: the holder
	OpNumber         uint32    `wire:"op_number,optional"`          // KindPrecondition, KindInvalid: 1 + index of the transaction's op that failed; 0: none
	AgeMillis        uint64    `wire:"age_millis,optional"`         // KindTooStale: how old the state is

	Oldest      uint64      `wire:"oldest,optional"`      // KindTrimmed, KindLagging: seq of the oldest event kept here
	ResumeFrom  uint64      `wire:"resume_from,optional"` // KindTrimmed, KindLagging: seq of the first event that was not sent; those below Oldest are in event storage
	Incarnation Incarnation `wire:"incarnation,optional"` // KindOldIncarnation: the one the refuser is in
}

// Error is "op: message", or the message alone.
func (e *Error) Error() string {
	if e.Op == "" {
		return e.Message
	}
	return e.Op + ": " + e.Message
}

// Is makes errors.Is(err, &Error{Kind: k}) match on the kind alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Message == ""
}
