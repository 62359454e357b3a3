package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of a history that is read.
const (
	maxLine = 32 << 20 // a transaction's results are at most 16 MiB, base64 and quotes aside
	maxTxns = 4 << 20
)

// errHistory is what is wrong with a file that is no history.
var errHistory = errors.New("not a history")

// Read reads the transactions of what a Recorder has written, as ReadLog does.
func Read(r io.Reader) ([]Txn, error) {
	l, err := ReadLog(r)
	if err != nil {
		return nil, err
	}
	return l.Txns, nil
}

// ReadLog reads what a Recorder has written. A request without an end is Unknown. A last line that was cut off is left out, since the
// recording program may have been killed; anything else that is not as a Recorder writes it is an error.
func ReadLog(r io.Reader) (*Log, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	in.Split(wholeLines)
	d := reader{log: &Log{}, open: map[uint64]place{}}
	at := int64(0)
	for n := 1; in.Scan(); n++ {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errHistory, n, err)
		}
		if l.At < at {
			return nil, fmt.Errorf("%w: line %d is of an earlier moment than the one before", errHistory, n)
		}
		at = l.At
		if err := d.take(l); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", errHistory, n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", errHistory, err)
	}
	return d.log, nil
}

// wholeLines splits into lines and leaves out a last one without an end.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if atEOF && advance == len(data) && advance > 0 && data[advance-1] != '\n' {
		return advance, nil, err
	}
	return advance, token, err
}

// reader joins the lines of requests.
type reader struct {
	log  *Log
	last uint64 // the number of the request that began last; they are numbered from 1 in the order of their lines
	open map[uint64]place
}

// place is where in a log a request is that has not ended.
type place struct {
	of    string
	index int
}

// What a request may be of.
const (
	ofTxn      = "transaction"
	ofRegister = "register"
	ofQuery    = "query"
)

func (d *reader) take(l line) error {
	switch {
	case l.Type == noted:
		return d.note(l)
	case l.Type == "invoke":
		return d.begin(l)
	}
	p, open := d.open[l.Call]
	if !open {
		return fmt.Errorf("an end of request %d, which is not under way", l.Call)
	}
	delete(d.open, l.Call)
	switch p.of {
	case ofTxn:
		return l.endTxn(&d.log.Txns[p.index])
	case ofQuery:
		q := &d.log.Queries[p.index]
		q.IDs = l.IDs
		return l.end(&q.Span)
	}
	r := &d.log.Registers[p.index]
	if l.Answer != nil {
		r.RegisterAnswer = *l.Answer
	} else if l.Type == "ok" {
		return fmt.Errorf("request %d has no answer", l.Call)
	}
	return l.end(&r.Span)
}

// note takes a line that is no request's.
func (d *reader) note(l line) error {
	switch {
	case l.Note != nil:
		d.log.Notes = append(d.log.Notes, *l.Note)
	case l.Event != nil:
		d.log.Events = append(d.log.Events, *l.Event)
	case l.Watch != nil:
		d.log.Watches = append(d.log.Watches, *l.Watch)
	default:
		return errors.New("a note that says nothing")
	}
	return nil
}

func (d *reader) begin(l line) error {
	if l.Call != d.last+1 || l.Call > maxTxns {
		return fmt.Errorf("request %d follows %d", l.Call, d.last)
	}
	d.last = l.Call
	span := Span{Call: l.Call, Client: l.Client, Invoke: l.At, Return: Never}
	if l.Register != nil {
		d.open[l.Call] = place{ofRegister, len(d.log.Registers)}
		d.log.Registers = append(d.log.Registers, Register{Span: span, RegisterOp: *l.Register})
		return nil
	}
	if l.Query != nil {
		d.open[l.Call] = place{ofQuery, len(d.log.Queries)}
		d.log.Queries = append(d.log.Queries, Query{Span: span, QueryOp: *l.Query})
		return nil
	}
	t := Txn{Call: l.Call, Client: l.Client, Invoke: l.At, Return: Never, ID: l.ID}
	for _, op := range l.Ops {
		t.Ops = append(t.Ops, op.Op)
	}
	d.open[l.Call] = place{ofTxn, len(d.log.Txns)}
	d.log.Txns = append(d.log.Txns, t)
	return nil
}

// end is that of a request which is no transaction.
func (l line) end(s *Span) error {
	s.Reason = l.Reason
	switch l.Type {
	case "ok":
		s.Outcome, s.Return = OK, l.At
	case "fail":
		s.Outcome, s.Return, s.Refused = Fail, l.At, l.FailedOp > 0
	case "info":
	default:
		return fmt.Errorf("type %.20q", l.Type)
	}
	return nil
}

func (l line) endTxn(t *Txn) error {
	var s Span
	if err := l.end(&s); err != nil {
		return err
	}
	t.Outcome, t.Reason, t.Seq, t.FailedOp = s.Outcome, s.Reason, l.Seq, l.FailedOp
	if s.Outcome != Unknown {
		t.Return = s.Return
	}
	if len(l.Results) != 0 && len(l.Results) != len(t.Ops) {
		return fmt.Errorf("%d results of %d operations", len(l.Results), len(t.Ops))
	}
	if l.FailedOp < 0 || l.FailedOp > len(t.Ops) {
		return fmt.Errorf("operation %d of %d failed", l.FailedOp, len(t.Ops))
	}
	for _, res := range l.Results {
		t.Results = append(t.Results, res.OpResult)
	}
	return nil
}
