package master

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// TestEveryGridMessageIsAnswered reads the messages of the grid protocol from their source: each is handled, or a reply, or a
// part of one.
func TestEveryGridMessageIsAnswered(t *testing.T) {
	notRequests := []string{"AgentRecord", "NodeRecord", "ClusterStatus", "ShardHealth", "Peer", "Assignments", "NodeAssignment", "EmittedEvent", "Answered", "StateDigest",
		"FeedStatus", "FeedOutbox", "FeedSink", "DecidedTxn", "HeldTxn"}
	byFront := []string{"MasterHello", "GetClusterStatus"}
	handled := map[string]bool{}
	for typ := range (&core{}).routes() {
		handled[typ.Elem().Name()] = true
	}
	seen := 0
	inspect := func(n ast.Node) bool {
		spec, is := n.(*ast.TypeSpec)
		if !is {
			return true
		}
		name := spec.Name.Name
		switch {
		case handled[name]:
			seen++
		case strings.HasSuffix(name, "Ok"), slices.Contains(notRequests, name), slices.Contains(byFront, name):
		default:
			t.Errorf("%s is a message of the grid protocol that nobody answers", name)
		}
		return true
	}
	for _, name := range []string{"../transport/messages_grid.go", "../transport/messages_members.go", "../transport/messages_checks.go", "../transport/messages_feed.go", "../transport/messages_shards.go", "../transport/messages_settings.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, inspect)
	}
	if seen != len(handled) {
		t.Errorf("%d of %d handlers are for messages of the grid protocol", seen, len(handled))
	}
}

// TestTablesNameEventsThatExist: what may come from outside has a body, and is not the state machine's to derive.
func TestTablesNameEventsThatExist(t *testing.T) {
	for _, types := range []any{proposable, emitted} {
		for _, k := range reflect.ValueOf(types).MapKeys() {
			if typ := k.Interface().(event.Type); !event.Info(typ).Emitted {
				t.Errorf("%s cannot be in the log", typ)
			}
		}
	}
}
