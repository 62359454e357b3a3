package master

import (
	"errors"
	"net/http"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// errorBody is the JSON of every HTTP error.
type errorBody struct {
	Error string     `json:"error"`
	Code  event.Kind `json:"code"`
	Hint  string     `json:"hint"`
}

// httpErrors maps each kind of error to its HTTP status and to what the caller can do. 503 means that it may be tried again,
// with the same request id where the outcome is open.
var httpErrors = map[event.Kind]struct {
	status int
	hint   string
}{
	event.KindInvalid:        {http.StatusBadRequest, "correct the request"},
	event.KindTooLarge:       {http.StatusRequestEntityTooLarge, "send less at once"},
	event.KindNotFound:       {http.StatusNotFound, "GET /api/agents lists what is known"},
	event.KindUnknownAgent:   {http.StatusNotFound, "register the agent first: POST /api/agents/register"},
	event.KindConflict:       {http.StatusConflict, "look at the present state and decide anew"},
	event.KindAborted:        {http.StatusConflict, "it did not happen; try again"},
	event.KindPrecondition:   {http.StatusConflict, "it did not happen; a precondition does not hold"},
	event.KindRefused:        {http.StatusForbidden, "the grid's rules do not allow it"},
	event.KindNeedsTxn:       {http.StatusConflict, "it did not happen; it concerns several shards"},
	event.KindIDReused:       {http.StatusUnprocessableEntity, "use a new request id for another request"},
	event.KindFromTheFuture:  {http.StatusBadRequest, "set this machine's clock"},
	event.KindTooOld:         {http.StatusConflict, "it did not happen; begin anew"},
	event.KindTrimmed:        {http.StatusGone, "read older events from event storage"},
	event.KindUnsupported:    {http.StatusNotImplemented, "this version does not know it"},
	event.KindOldIncarnation: {http.StatusConflict, "that history of the grid has ended; refresh what you know"},
	event.KindTooStale:       {http.StatusServiceUnavailable, "ask another master, or accept an older state"},
	event.KindFeedFull:       {http.StatusServiceUnavailable, "bring the event sink back, or raise feed.quota_mb; see GET /api/feed"},
	event.KindLocked:         {http.StatusServiceUnavailable, "it did not happen; a transaction holds what it needs; retry"},
	event.KindInDoubt:        {http.StatusServiceUnavailable, "a transaction holds what it reads; retry"},
	event.KindMoving:         {http.StatusServiceUnavailable, "retry; the shard is moving"},
	event.KindWrongShard:     {http.StatusServiceUnavailable, "retry; the shard map is changing"},
	event.KindBusy:           {http.StatusServiceUnavailable, "retry in a moment"},
	event.KindUnavailable:    {http.StatusServiceUnavailable, "retry; if it stays, check that a majority of the masters runs"},
	event.KindNotLeader:      {http.StatusServiceUnavailable, "retry; the masters are changing their leader"},
	event.KindDeadline:       {http.StatusServiceUnavailable, "the outcome is open; look, then retry"},
	event.KindUnknownOutcome: {http.StatusServiceUnavailable, "the outcome is open; look, then retry"},
	event.KindExpired:        {http.StatusServiceUnavailable, "the outcome is no longer known; look before you retry"},
}

func failure(err error) reply {
	e := asError("", err)
	known, mapped := httpErrors[e.Kind]
	if !mapped {
		known.status, known.hint = http.StatusInternalServerError, "see this master's log"
	}
	return reply{status: known.status, body: errorBody{Error: e.Error(), Code: e.Kind, Hint: known.hint}}
}

// asError gives any error the form that crosses the wire.
func asError(op string, err error) *event.Error {
	var e *event.Error
	if errors.As(err, &e) {
		return e
	}
	return &event.Error{Kind: event.KindInternal, Op: op, Message: err.Error()}
}

// unavailable turns the end of a wait, or a failure of something that changed nothing, into an error that may be retried.
func unavailable(op string, err error) error {
	var e *event.Error
	if errors.As(err, &e) && (outcomeOf(e) == outcomeRefused || e.Kind == event.KindUnavailable) {
		return e
	}
	return &event.Error{Kind: event.KindUnavailable, Op: op, Message: err.Error()}
}
