package fault

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// uses finds every mention of a label's constant outside this package and the tests: name -> "package via", where via is the
// function of this package it is given to, if it is one.
func uses(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		where := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, root+string(filepath.Separator))))
		given := map[*ast.SelectorExpr]string{}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 1 {
				if arg := ours(call.Args[0]); arg != nil && ours(call.Fun) != nil {
					given[arg] = ours(call.Fun).Sel.Name
				}
			}
			if sel := ours(n); sel != nil {
				found[sel.Sel.Name] = append(found[sel.Sel.Name], where+" "+given[sel])
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// ours is a node that selects something of this package, or nil.
func ours(n ast.Node) *ast.SelectorExpr {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "fault" {
		return nil
	}
	return sel
}

// constants are the names of the labels' constants, in the order of the table.
func constants(t *testing.T) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "labels.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, s := range d.Specs {
				if name := s.(*ast.ValueSpec).Names[0].Name; name != "_" {
					names = append(names, name)
				}
			}
		}
		return true
	})
	return names
}

// TestEveryLabelIsUsedOnce: the table, the constants and the source agree.
func TestEveryLabelIsUsedOnce(t *testing.T) {
	names, found := constants(t), uses(t)
	if len(names) != len(labels) || len(names) < 50 {
		t.Fatalf("%d constants, %d lines in the table", len(names), len(labels))
	}
	form, seen := regexp.MustCompile(`^[a-z]+(\.[a-z]+)+$`), map[string]bool{}
	for i, s := range labels {
		if int(s.Label) != i+1 || s.What == "" || !form.MatchString(s.Name) || seen[s.Name] {
			t.Errorf("%+v: out of order, twice, without a description, or no name of words and dots", s)
		}
		seen[s.Name] = true
		at := found[names[i]]
		if len(at) != 1 {
			t.Errorf("%s (%s) is used at %q, want one place", s.Name, names[i], at)
			continue
		}
		where, via, _ := strings.Cut(at[0], " ")
		if where != s.Where {
			t.Errorf("%s is used in %s, the table says %s", s.Name, where, s.Where)
		}
		if via == "Err" && !s.Fails || via == "Point" && s.Fails {
			t.Errorf("%s is given to %s; the table says that it can fail: %v", s.Name, via, s.Fails)
		}
	}
}

// TestReleaseHasNoPoints: a program built for a release holds neither a label nor the means to arm one, and one built with the
// tag holds them all, which shows that the search finds them.
func TestReleaseHasNoPoints(t *testing.T) {
	release, faults := program(t), program(t, "-tags", "faults")
	if !bytes.Contains(faults, []byte("GRID_FAULT")) || bytes.Contains(release, []byte("GRID_FAULT")) {
		t.Error("GRID_FAULT: want it with the tag, and only then")
	}
	for _, s := range labels {
		if !bytes.Contains(faults, []byte(s.Name)) {
			t.Errorf("%s is not in a program built with the tag: this test finds nothing", s.Name)
		}
		if bytes.Contains(release, []byte(s.Name)) {
			t.Errorf("%s is in a program built for a release", s.Name)
		}
	}
}

// program builds the program with most of the points.
func program(t *testing.T, flags ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gridmaster")
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags=-s -w"}, flags...), "-o", path, "./cmd/gridmaster")...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
