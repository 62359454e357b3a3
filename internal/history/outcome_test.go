package history

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// TestOutcomesFollowTheVocabulary: the table says of every kind what its comment in fsm/event says: "fail", "surely", or "unknown".
func TestOutcomesFollowTheVocabulary(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../../fsm/event/errors.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	reads := []event.Kind{event.KindInDoubt, event.KindTrimmed, event.KindLagging} // of which nothing can be left behind
	kinds := 0
	ast.Inspect(f, func(n ast.Node) bool {
		s, is := n.(*ast.ValueSpec)
		if !is || len(s.Names) == 0 || !strings.HasPrefix(s.Names[0].Name, "Kind") || s.Comment == nil {
			return true
		}
		kinds++
		text, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		want := Unknown
		if said := s.Comment.Text(); strings.Contains(said, "; fail") || strings.Contains(said, "surely") {
			want = Fail
		}
		for _, k := range reads {
			if event.Kind(text) == k {
				want = Fail
			}
		}
		if got, known := outcomes[event.Kind(text)]; got != want || !known {
			t.Errorf("%s: %v (in the table: %v), its comment says %v: %s", text, got, known, want, s.Comment.Text())
		}
		return true
	})
	if kinds != len(outcomes) || kinds < 25 {
		t.Errorf("%d kinds, %d in the table", kinds, len(outcomes))
	}
}

func TestOutcomeOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Outcome
	}{
		{nil, OK},
		{errors.New("the cable is cut"), Unknown},
		{context.DeadlineExceeded, Unknown},
		{&event.Error{Kind: "of a later release"}, Unknown},
		{fmt.Errorf("transfer: %w", &event.Error{Kind: event.KindAborted}), Fail},
		{fmt.Errorf("transfer: %w", &event.Error{Kind: event.KindDeadline}), Unknown},
	} {
		if got := Of(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// TestAttempts: what one attempt failed for says nothing of the one before, unless it is the transaction's own end.
func TestAttempts(t *testing.T) {
	end := func(k event.Kind) error { return &event.Error{Kind: k, OpNumber: 3} }
	for _, tt := range []struct {
		said []error
		want Outcome
	}{
		{[]error{end(event.KindUnavailable)}, Fail},
		{[]error{end(event.KindUnknownOutcome)}, Unknown},
		{[]error{end(event.KindUnknownOutcome), end(event.KindUnavailable)}, Unknown},
		{[]error{end(event.KindUnknownOutcome), end(event.KindFeedFull), end(event.KindBusy)}, Unknown},
		{[]error{end(event.KindUnknownOutcome), end(event.KindUnavailable), end(event.KindAborted)}, Fail},
		{[]error{end(event.KindDeadline), end(event.KindPrecondition)}, Fail},
		{[]error{end(event.KindDeadline), nil}, OK},
		{[]error{end(event.KindBusy), end(event.KindDeadline), end(event.KindInternal)}, Unknown},
	} {
		var a Attempts
		var got Outcome
		for _, err := range tt.said {
			got = a.Add(err)
		}
		if got != tt.want {
			t.Errorf("%v: %v, want %v", tt.said, got, tt.want)
		}
	}
	if FailedOp(end(event.KindPrecondition)) != 3 || FailedOp(end(event.KindAborted)) != 0 || FailedOp(nil) != 0 {
		t.Error("only a precondition names the operation")
	}
}
