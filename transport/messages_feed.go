package transport

import "github.com/sutra-grid/sutra-grid/fsm/event"

// The feed's way into its sinks, spoken on a master's grid port. Any master answers; what only the leader knows is asked there.
type (
	// GetFeed asks for the state of shipping.
	GetFeed struct {
		Local bool   `wire:"local,optional"` // this master's own outbox, and nothing of the leader's
		Hops  uint32 `wire:"hops,optional"`  // how often it was passed on
	}
	// FeedStatus is the answer; also the JSON of GET /api/feed and `gridctl feed status`.
	FeedStatus struct {
		MasterID event.MasterID `wire:"master_id" json:"master_id"` // who says so: the leader, unless Local was asked for
		Sinks    []FeedSink     `wire:"sinks" json:"sinks"`         // by name
		Outbox   FeedOutbox     `wire:"outbox" json:"outbox"`
		Dropped  uint64         `wire:"dropped" json:"dropped"` // telemetry that a full outbox did not take, since that master started
		Refused  uint64         `wire:"refused" json:"refused"` // clients' commands, likewise
		Seq      uint64         `wire:"seq" json:"seq"`
		Epoch    uint64         `wire:"epoch" json:"epoch"` // of the shard map
		Read
	}
	// FeedOutbox is one master's outbox, and what of the grid's quota is used. Events that every sink has do not count.
	FeedOutbox struct {
		First       uint64      `wire:"first" json:"first"` // oldest event held; behind Last when none is
		Last        uint64      `wire:"last" json:"last"`
		Base        event.Chain `wire:"base" json:"-"`                    // chain value at First-1
		BaseKnown   bool        `wire:"base_known" json:"-"`              // false only while nothing is held
		Bytes       uint64      `wire:"bytes" json:"bytes"`               // of all encoded events held
		Unsent      uint64      `wire:"unsent" json:"unsent"`             // events that some sink does not hold
		UnsentBytes uint64      `wire:"unsent_bytes" json:"unsent_bytes"` // to within 1,024 events
		QuotaBytes  uint64      `wire:"quota_bytes" json:"quota_bytes"`   // the setting feed.quota_mb
		UsedPercent uint32      `wire:"used_percent" json:"used_percent"` // UnsentBytes of QuotaBytes
		Full        bool        `wire:"full" json:"full"`                 // telemetry is dropped: 80 % was reached and it is not yet under 75 %
	}
	// FeedSink is one sink as the leader ships to it.
	FeedSink struct {
		Sink      string `wire:"sink" json:"sink"`
		Address   string `wire:"address" json:"address"`
		Class     string `wire:"class" json:"class"`     // grid or extern
		SinkID    string `wire:"sink_id" json:"sink_id"` // of the store; empty: never met
		Through   uint64 `wire:"through" json:"through"` // acknowledged: it holds the feed durably up to here
		LagEvents uint64 `wire:"lag_events" json:"lag_events"`
		LagMillis uint64 `wire:"lag_ms" json:"lag_ms"` // age of the oldest event it does not hold
		State     string `wire:"state" json:"state"`   // connecting, shipping, retrying or refused
		Error     string `wire:"error" json:"error,omitempty"`
		GapFrom   uint64 `wire:"gap_from,optional" json:"gap_from,omitempty"` // events that nobody has any more, until an operator accepts that
		GapTo     uint64 `wire:"gap_to,optional" json:"gap_to,omitempty"`
	}
)
