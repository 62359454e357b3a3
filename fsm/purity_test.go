package fsm

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// impure are imports that the state machine must not have: what they give differs between replicas.
var impure = []string{"os", "net", "math/rand", "crypto/rand", "sync", "syscall", "runtime", "log", "context", "unsafe"}

// pureUses are exceptions, by file: what for.
var pureUses = map[string]map[string]string{
	"machine.go":       {"sync/atomic": "publishing the state"},
	"shardmap/hash.go": {"unsafe": "the bytes of a string, read only"},
	"event/json.go":    {"time": "formatting and parsing", "sync": "what the tags of a type say, whoever reads them first"}, "event/json_write.go": {"time": "formatting"}, "event/validate.go": {"time": "the year of a time"},
}

// mapTypes are the only places where a Go map appears, by file and declaration: why its order does not matter.
var mapTypes = map[string]string{
	"handler.go handlers":             "a table, looked up only",
	"settings.go bounds":              "a table, looked up only",
	"settings.go protocolTypes":       "a table, looked up only",
	"objects.go Agent":                "labels, written in key order by the codec",
	"event/bodies.go AgentRegistered": "labels, written in key order by the codec",
	"event/codec.go bodies":           "a table, looked up only",
	"event/catalogue.go catalogue":    "a table; Types sorts what it ranges over, typeNames is a map again",
	"event/catalogue.go typeNames":    "a table, looked up only",
	"event/filter.go entityKinds":     "a table, looked up only",
	"event/json.go FromJSON":          "fields by name, looked up only",
	"event/json.go fromFields":        "fields by name, looked up only",
	"event/json_read.go readFields":   "fields by name, looked up only",
	"event/json_read.go readValue":    "fields by name, looked up only",
	"event/json_read.go readObject":   "into a map again",
}

// forbiddenCalls of packages that are allowed otherwise.
var forbiddenCalls = []string{"time.Now", "time.Since", "time.Until", "time.After", "time.Sleep", "time.NewTimer", "time.NewTicker", "time.Tick", "time.AfterFunc", "time.LoadLocation"}

// TestPurity walks the source of the state machine and everything of ours below it: no clock, no randomness, no I/O, no
// goroutine, and no Go map outside the list above, so none whose order could be seen.
func TestPurity(t *testing.T) {
	usedMaps, usedImports := map[string]bool{}, 0
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		usedImports += checkImports(t, path, f)
		for _, decl := range f.Decls {
			name := declName(decl)
			ast.Inspect(decl, func(n ast.Node) bool {
				checkNode(t, fset, n)
				if _, ok := n.(*ast.MapType); ok {
					key := path + " " + name
					if usedMaps[key] = true; mapTypes[key] == "" {
						t.Errorf("%s: a map in %s: use a tree or a slice, or say in mapTypes why its order cannot be seen", fset.Position(n.Pos()), name)
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were looked at", files)
	}
	for key := range mapTypes {
		if !usedMaps[key] {
			t.Errorf("mapTypes allows %s, where there is no map: delete the line", key)
		}
	}
	if want := 6; usedImports != want {
		t.Errorf("%d imports are exceptions, pureUses has %d", usedImports, want)
	}
}

func checkImports(t *testing.T, path string, f *ast.File) (exceptions int) {
	for _, imp := range f.Imports {
		name, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.ContainsFunc(append(impure, "time"), func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
		if !bad {
			continue
		}
		if pureUses[path][name] == "" {
			t.Errorf("%s imports %s", path, name)
		}
		exceptions++
	}
	return exceptions
}

func checkNode(t *testing.T, fset *token.FileSet, n ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt, *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
		t.Errorf("%s: goroutines and channels have no place here", fset.Position(n.Pos()))
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && slices.Contains(forbiddenCalls, x.Name+"."+n.Sel.Name) {
			t.Errorf("%s: %s.%s", fset.Position(n.Pos()), x.Name, n.Sel.Name)
		}
	}
}

func declName(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Name.Name
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				return s.Name.Name
			case *ast.ValueSpec:
				return s.Names[0].Name
			}
		}
	}
	return ""
}
