package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestArrange(t *testing.T) {
	app := newApp(&printer{w: &bytes.Buffer{}, errw: &bytes.Buffer{}})
	for in, want := range map[string]string{
		"gridctl status":                                   "gridctl status",
		"gridctl status -o json":                           "gridctl -o json status",
		"gridctl link a b --type made_of":                  "gridctl link --type made_of a b",
		"gridctl link a --type=made_of b -m h:1":           "gridctl -m h:1 link --type=made_of a b",
		"gridctl agents show agent-1 --output json":        "gridctl --output json agents show agent-1",
		"gridctl agents --output json show agent-1":        "gridctl --output json agents show agent-1",
		"gridctl dev --fresh --data d":                     "gridctl dev --fresh --data d",
		"gridctl events list --limit 3 --events h:1":       "gridctl events list --limit 3 --events h:1",
		"gridctl put status -- -o":                         "gridctl put status -- -o",
		"gridctl search -k 5 --text a --tag t -o json":     "gridctl -o json search -k 5 --text a --tag t",
		"gridctl get agents":                               "gridctl get agents",
		"gridctl get a --nonsense":                         "gridctl get --nonsense a",
		"gridctl import - --on-error continue":             "gridctl import --on-error continue -",
		"gridctl":                                          "gridctl",
		"gridctl dev hold prog --id x -o y":                "gridctl dev hold prog --id x -o y",
		"gridctl --timeout 3s --master h:1 neighbors x -h": "gridctl --timeout 3s --master h:1 neighbors -h x",
	} {
		if got := strings.Join(arrange(app, strings.Fields(in)), " "); got != want {
			t.Errorf("%s\nis  %s\nnot %s", in, got, want)
		}
	}
}

// TestUsageErrors: wrong calls end with status 2 and one line, before anything is sent.
func TestUsageErrors(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, call := range []string{"nonsense", "get", "get a b", "status --nonsense", "status -o xml", "agents nonsense", "import", "import x --on-error maybe",
		"put a", "put a b --attribute novalue", "--master nowhere status", "events list --type nonsense", "path a", "dev --replicas 2",
		"search", "search --text a --vector-file b", "search --text a b", "search --text a --attr novalue", "search --vector-file args_test.go",
		"query --consistency leader", "neighbors a --partial"} {
		var out, errs bytes.Buffer
		status := run(t.Context(), append([]string{"gridctl"}, strings.Fields(call)...), &out, &errs)
		if text := errs.String(); status != exitUsage || strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "gridctl: ") {
			t.Errorf("gridctl %s: exit %d\n%s%s", call, status, out.String(), text)
		}
	}
}
