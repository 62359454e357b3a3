package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/txnjson"
	"github.com/sutra-grid/sutra-grid/transport"
)

func txnCommand(out *printer) *cli.Command {
	return &cli.Command{Name: "txn", Usage: "transactions over any concepts; see docs/transactions.md", Subcommands: []*cli.Command{
		{
			Name: "run", Usage: "run the transaction of a JSON file, - for standard input: all of it or nothing", ArgsUsage: "FILE|-",
			Action: withSession(1, func(c *cli.Context, s *session) error { return runTxn(c, s, out) }),
		},
		{
			Name: "list", Usage: "what is under way: decided and not known to every shard yet, or prepared and waiting for a decision", Flags: readFlags(),
			Action: withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error { return listTxns(s, out, how) }),
		},
		{
			Name: "show", Usage: "what is known of one transaction: outcome, attempts, participants, events", ArgsUsage: "ID", Flags: readFlags(),
			Action: withReading(1, func(c *cli.Context, s *session, how transport.Reading) error { return showTxn(c, s, out, how) }),
		},
		{
			Name: "resolve", Usage: "end a transaction that is prepared, by your word; the first decision wins. Nobody has to: shards ask by themselves", ArgsUsage: "ID",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "abort", Usage: "it does not happen (the default)"},
				&cli.BoolFlag{Name: "commit", Usage: "it happens; refused unless every participant holds it prepared, for a minute at least"},
				&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			},
			Action: func(c *cli.Context) error { return resolveTxn(c, out) },
		},
	}}
}

// readInput reads a file, or standard input for "-", up to the bound of a transaction.
func readInput(c *cli.Context, name string) ([]byte, error) {
	in := c.App.Reader
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	if in == nil {
		return nil, usagef("there is no standard input")
	}
	data, err := io.ReadAll(io.LimitReader(in, txnjson.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func runTxn(c *cli.Context, s *session, out *printer) error {
	data, err := readInput(c, c.Args().First())
	if err != nil {
		return err
	}
	t, err := txnjson.Decode(data, func(name string) (uint32, error) { return typeNumber(s, name) })
	if err != nil {
		return err
	}
	if t.RequestID.IsZero() { // made here, so that an unknown outcome can be asked for
		rand.Read(t.RequestID[:])
	}
	t.Issued = time.Now().UnixMicro()
	if deadline, ok := s.ctx.Deadline(); ok && t.TimeoutMillis == 0 {
		t.TimeoutMillis = uint32(max(time.Until(deadline).Milliseconds(), 1))
	}
	ok, err := ask[transport.TxnOk](s, t)
	if err != nil {
		return txnFailed(out, t, err)
	}
	done := struct {
		*txnjson.Committed
		Seq uint64 `json:"seq"`
	}{txnjson.CommittedOf(t.Ops, ok), ok.Seq}
	return out.show(done, func(w io.Writer) { showResults(w, t, done.Committed, ok.Seq) })
}

// txnFailed tells of a transaction that did not happen as its reply does; of one that may have, how to ask again.
func txnFailed(out *printer, t *transport.Txn, err error) error {
	var e *event.Error
	if !errors.As(err, &e) {
		e = &event.Error{Kind: event.KindUnknownOutcome, Message: err.Error()}
		if errors.Is(err, context.DeadlineExceeded) {
			e.Message = "no answer in time"
		}
	}
	switch e.Kind {
	case event.KindAborted, event.KindPrecondition:
		aborted := txnjson.AbortedOf(e, reasonOf(e))
		aborted.TxnID = t.RequestID.String()
		if err := out.show(aborted, func(w io.Writer) {}); err != nil {
			return err
		}
		if out.format == formatTable {
			return fmt.Errorf("aborted (%s): %w", aborted.Reason, e)
		}
		return statusError(kindStatus(e.Kind))
	case event.KindUnknownOutcome, event.KindDeadline, event.KindUnavailable, event.KindInternal:
		asked := *e
		asked.Message += fmt.Sprintf("; run it again with \"request_id\":%q to learn its outcome", t.RequestID)
		return &asked
	}
	return e
}

// reasonOf is why a transaction was aborted, as far as an error over the wire tells.
func reasonOf(e *event.Error) string {
	if e.Kind == event.KindAborted && e.OpNumber > 0 {
		return "conflict"
	}
	return string(e.Kind)
}

func showResults(w io.Writer, t *transport.Txn, done *txnjson.Committed, seq uint64) {
	fmt.Fprintf(w, "committed  %s", done.TxnID)
	if seq > 0 {
		fmt.Fprintf(w, "  (event %d)", seq)
	}
	fmt.Fprintln(w)
	if done.ResultsOmitted {
		fmt.Fprintln(w, "it was committed before; its results are no longer kept")
	}
	for i, r := range done.Results {
		if r == nil {
			continue
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if enc.Encode(r) != nil {
			continue // strings and numbers are always encodable
		}
		fmt.Fprintf(w, "%4d  %s %s  %s", i, t.Ops[i].Kind, t.Ops[i].ID, text.Bytes())
	}
}

// txnID reads the argument.
func txnID(c *cli.Context) (id event.TxnID, err error) {
	text := c.Args().First()
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, usagef("%q is no transaction id: want 32 hex digits", text)
	}
	copy(id[:], b)
	return id, nil
}

func resolveTxn(c *cli.Context, out *printer) error {
	if c.NArg() != 1 {
		return usagef("want one transaction id")
	}
	id, err := txnID(c)
	if err != nil {
		return err
	}
	commit := c.Bool("commit")
	if commit && c.Bool("abort") {
		return usagef("--commit and --abort: want one of them")
	}
	verb := "Abort"
	if commit {
		verb = "Commit"
	}
	if !c.Bool("yes") {
		if err := out.confirm(c.App.Reader, fmt.Sprintf("%s transaction %s?", verb, id)); err != nil {
			return err
		}
	}
	return withSession(1, func(_ *cli.Context, s *session) error {
		r, err := ask[transport.ResolveTxnOk](s, &transport.ResolveTxn{TxnID: id, Commit: commit})
		if err != nil {
			return err
		}
		body := map[string]any{"txn_id": id.String(), "outcome": r.Outcome, "seq": r.Seq, "attempt": attemptText(r.Attempt)}
		if err := out.show(body, func(w io.Writer) { fmt.Fprintf(w, "%s is %s (event %d)\n", id, r.Outcome, r.Seq) }); err != nil {
			return err
		}
		if (r.Outcome == "committed") != commit {
			return statusError(exitFailed) // another decision was first
		}
		return nil
	})(c)
}

// attemptText is an attempt's number: an id, so text in JSON too.
func attemptText(n uint64) string { return fmt.Sprintf("%016x", n) }
