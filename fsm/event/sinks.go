package event

import "fmt"

// FeedRewound: the store behind a sink does not hold what was acknowledged for it, or is another one; it is shipped to again
// from To + 1 (safety S10).
type FeedRewound struct {
	Sink     string   `wire:"sink"`
	To       uint64   `wire:"to"`                    // the last event that it is known to hold; at most From
	Chain    [32]byte `wire:"chain" json:"to_chain"` // of event To; "chain" is the envelope's
	From     uint64   `wire:"from"`                  // where the cursor was
	SinkID   string   `wire:"sink_id"`               // the store's from now on: an id that was never used
	Replaces string   `wire:"replaces"`              // the id that acknowledged the feed through From
	Size     uint64   `wire:"size"`                  // encoded length of all events of the feed through To, in bytes
}

// Type is TypeFeedRewound.
func (FeedRewound) Type() Type { return TypeFeedRewound }

func describeFeedRewound(e FeedRewound) string {
	return fmt.Sprintf("sink %s had acknowledged the feed through %d; it receives it again from %d on", e.Sink, e.From, e.To+1)
}
