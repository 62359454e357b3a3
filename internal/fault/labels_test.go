package fault

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sources hands each Go file of the repository to visit, with its folder.
func sources(t *testing.T, tests bool, visit func(where string, f *ast.File)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") && !tests {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err == nil {
			visit(filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, root+string(filepath.Separator)))), f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// uses finds every mention of a label's constant outside this package, the tests and the fault suite: name -> "package via", where via is the
// function of this package it is given to, if it is one.
func uses(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	sources(t, false, func(where string, f *ast.File) {
		if strings.HasPrefix(where, "cmd/gridfault/") { // who names them to have them happen
			return
		}
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
	})
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

// constants are the names of a file's exported constants, in the order of its table.
func constants(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, s := range d.Specs {
				if name := s.(*ast.ValueSpec).Names[0].Name; ast.IsExported(name) {
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
	names, found := constants(t, "labels.go"), uses(t)
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

// TestEveryMutationIsUsed: the table and the source agree, and a mutation is nothing but a condition.
func TestEveryMutationIsUsed(t *testing.T) {
	names, found := constants(t, "mutations.go"), uses(t)
	if len(names) != len(mutations) || len(names) < 30 {
		t.Fatalf("%d constants, %d lines in the table", len(names), len(mutations))
	}
	for i, s := range mutations {
		at := found[names[i]]
		if len(at) == 0 || len(at) > 2 {
			t.Errorf("%s (%s) is used at %q, want one place, or two of one meaning", s.Name, names[i], at)
			continue
		}
		if !slices.Contains(at, s.Where+" Broken") {
			t.Errorf("%s is used at %q, the table says %s", s.Name, at, s.Where)
		}
		for _, place := range at {
			if !strings.HasSuffix(place, " Broken") {
				t.Errorf("%s is used at %q for something else than to ask whether it is live", s.Name, place)
			}
		}
	}
}

// TestTaggedFilesAreHere: a file is compiled, or left out, by a tag of the build only where make check looks at it with the tag set.
// Except the one line for machines other than amd64: looking at it takes another machine's standard library, a minute of compiling.
func TestTaggedFilesAreHere(t *testing.T) {
	vetted := map[string][]string{"faults": {"internal/fault", "internal/datadir", "internal/raftgroup", "cmd/gridfault/sim"}, "replay": {"cmd/gridfault/bubble"}, "race": {"fsm/shardmap", "storagenode/vector"}, "amd64": {"storagenode/vector"}}
	tagged := 0
	sources(t, true, func(where string, f *ast.File) {
		for _, group := range f.Comments {
			for _, c := range group.List {
				line, is := strings.CutPrefix(c.Text, "//go:build ")
				if !is || c.Pos() > f.Package {
					continue
				}
				tagged++
				if tag := strings.TrimPrefix(line, "!"); !slices.Contains(vetted[tag], where) {
					t.Errorf("%s has a file with %q: vet it with this tag in the Makefile, and say so here", where, c.Text)
				}
			}
		}
	})
	if tagged < 5 {
		t.Fatalf("%d tagged files found: this test finds nothing", tagged)
	}
}
