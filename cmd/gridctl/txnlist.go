package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// maxEventPages bounds the pages of events in which one transaction's are looked for.
const maxEventPages = 50

// txnsJSON is what `gridctl txn list` and `show` print.
type txnsJSON struct {
	TxnID    string                   `json:"txn_id,omitempty"`
	Outcome  string                   `json:"outcome,omitempty"` // of one: committed, aborted, prepared or unknown
	Seq      uint64                   `json:"outcome_seq,omitempty"`
	Decided  []decidedJSON            `json:"decided"`
	Prepared []preparedJSON           `json:"prepared"`
	Missing  []transport.MissingShard `json:"missing"` // shards that did not say what they hold
	transport.Read
}

type decidedJSON struct {
	TxnID     string          `json:"txn_id"`
	Outcome   string          `json:"outcome"`
	Attempt   string          `json:"attempt"`
	Seq       uint64          `json:"seq"`
	Time      time.Time       `json:"time"`
	Shards    []event.ShardID `json:"shards"`
	Aborted   []string        `json:"aborted_attempts"`
	Completed bool            `json:"completed"`
}

type preparedJSON struct {
	TxnID        string          `json:"txn_id"`
	ShardID      event.ShardID   `json:"shard_id"`
	Attempt      string          `json:"attempt"`
	Coordinator  event.MasterID  `json:"coordinator"`
	Participants []event.ShardID `json:"participants"`
	Open         bool            `json:"open"`
	AgeMillis    uint64          `json:"age_ms"`
	BeginSeq     uint64          `json:"begin_seq"`
}

func txnsOf(r *transport.ListTxnsOk) *txnsJSON {
	j := &txnsJSON{Decided: []decidedJSON{}, Prepared: []preparedJSON{}, Missing: []transport.MissingShard{}, Read: r.Read}
	for _, d := range r.Decided {
		one := decidedJSON{d.TxnID.String(), d.Outcome, attemptText(d.Attempt), d.Seq, time.UnixMicro(d.Time).UTC(), d.Shards, []string{}, d.Completed}
		for _, a := range d.Aborted {
			one.Aborted = append(one.Aborted, attemptText(a))
		}
		j.Decided = append(j.Decided, one)
	}
	for _, p := range r.Prepared {
		j.Prepared = append(j.Prepared, preparedJSON{p.TxnID.String(), p.ShardID, attemptText(p.Attempt), p.Coordinator, p.Participants, p.Open, p.AgeMillis, p.Begin.Seq})
	}
	j.Missing = append(j.Missing, r.Missing...)
	return j
}

func listTxns(s *session, out *printer, how transport.Reading) error {
	r, err := ask[transport.ListTxnsOk](s, &transport.ListTxns{Reading: how})
	if err != nil {
		return err
	}
	j := txnsOf(r)
	return out.show(j, func(w io.Writer) {
		if len(j.Decided)+len(j.Prepared) == 0 {
			fmt.Fprintln(w, "no transaction is under way")
		}
		j.tables(w)
	})
}

// tables are those of what is there.
func (j *txnsJSON) tables(w io.Writer) {
	if len(j.Decided) > 0 {
		var lines [][]any
		for _, d := range j.Decided {
			lines = append(lines, []any{d.TxnID, d.Outcome, d.Attempt, d.Seq, d.Time.Local().Format("15:04:05.000"), joined(d.Shards), len(d.Aborted), d.Completed})
		}
		rows(w, []any{"DECIDED", "OUTCOME", "ATTEMPT", "SEQ", "TIME", "SHARDS", "ABORTED", "COMPLETED"}, lines)
	}
	if len(j.Prepared) > 0 {
		var lines [][]any
		for _, p := range j.Prepared {
			lines = append(lines, []any{p.TxnID, p.ShardID, p.Attempt, time.Duration(p.AgeMillis) * time.Millisecond, p.Coordinator, joined(p.Participants), p.Open})
		}
		rows(w, []any{"PREPARED", "SHARD", "ATTEMPT", "AGE", "COORDINATOR", "PARTICIPANTS", "OPEN"}, lines)
	}
	for _, m := range j.Missing {
		fmt.Fprintf(w, "%s does not say what it holds: %s\n", m.ShardID, m.Message)
	}
}

func joined(ids []event.ShardID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return strings.Join(texts, ",")
}

func showTxn(c *cli.Context, s *session, out *printer, how transport.Reading) error {
	id, err := txnID(c)
	if err != nil {
		return err
	}
	r, err := ask[transport.ListTxnsOk](s, &transport.ListTxns{TxnID: id, Reading: how})
	if err != nil {
		return err
	}
	j := txnsOf(r)
	j.TxnID, j.Seq, j.Outcome = id.String(), r.Seq, r.Outcome
	switch {
	case j.Outcome == "" && len(j.Prepared) > 0:
		j.Outcome = "prepared"
	case j.Outcome == "" && len(j.Decided) == 0:
		return &event.Error{Kind: event.KindNotFound, Message: fmt.Sprintf("transaction %s: nothing is known of it: it never was, or one shard did it alone, or it is forgotten", id)}
	case j.Outcome == "":
		j.Outcome = "unknown"
	}
	events, err := txnEvents(s, id, r)
	if err != nil {
		return err
	}
	if out.format != formatTable {
		return out.show(struct {
			*txnsJSON
			Events []eventJSON `json:"events"`
		}{j, eventsJSON(events)}, nil)
	}
	fmt.Fprintf(out.w, "%s  %s\n\n", j.TxnID, j.Outcome)
	j.tables(out.w)
	for _, e := range events {
		if err := out.event(e); err != nil {
			return err
		}
	}
	return nil
}

// eventJSON is one event of a transaction.
type eventJSON struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	Info string    `json:"info"`
}

func eventsJSON(events []*event.Envelope) []eventJSON {
	list := []eventJSON{}
	for _, e := range events {
		list = append(list, eventJSON{e.Seq, time.UnixMicro(e.Time).UTC(), e.Type.String(), event.Info(e.Type).Describe(e.Body)})
	}
	return list
}

// txnEvents finds the events about a transaction that masters still keep, in the order of the feed.
func txnEvents(s *session, id event.TxnID, r *transport.ListTxnsOk) ([]*event.Envelope, error) {
	from, to := r.Seq, r.Seq
	if len(r.Decided) > 0 {
		from, to = r.Decided[0].Begin.Seq, 0
	}
	if from == 0 {
		return nil, nil
	}
	var found []*event.Envelope
	for _, t := range []event.Type{event.TypeTxnCommitted, event.TypeTxnAborted, event.TypeTxnCompleted} {
		page := transport.ListEvents{From: from, To: to, Type: t, Limit: transport.MaxEventsLimit}
		for range maxEventPages {
			envelopes, last, err := masterEvents(nil, s, page)
			if err != nil {
				return nil, err
			}
			for _, e := range envelopes {
				if concerns(e, id) {
					found = append(found, e)
				}
			}
			if last < page.From || to > 0 && last >= to {
				break
			}
			page.From = last + 1
		}
	}
	slices.SortFunc(found, func(a, b *event.Envelope) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return found, nil
}

func concerns(e *event.Envelope, id event.TxnID) bool {
	switch b := e.Body.(type) {
	case event.TxnCommitted:
		return b.TxnID == id
	case event.TxnAborted:
		return b.TxnID == id
	case event.TxnCompleted:
		return slices.Contains(b.TxnIDs, id)
	}
	return false
}
