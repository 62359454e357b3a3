package law

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

// The measures of the house style, outside tests and generated files.
const (
	maxFunctionLines, p90FunctionLines = 100, 40
	maxFileLines, p90FileLines         = 700, 350
	maxStructFields                    = 20
	maxParameters                      = 5
)

// wideStructs may have more fields, with the reason.
var wideStructs = map[string]string{
	"ClusterStatus": "mirrors the body of GET /api/health, field by field",
}

// foreignSignatures may have more parameters: they implement an interface that is not ours.
var foreignSignatures = map[string]string{
	"internal/raftgroup/snapshots.go Create": "raft.SnapshotStore",
	"internal/raftgroup/points.go Create":    "raft.SnapshotStore",
}

// measures collects the sizes seen and what breaks a bound.
type measures struct {
	files, functions []int
	faults           []string
}

func (m *measures) faultf(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func TestStyleMeasures(t *testing.T) {
	m := &measures{}
	for _, path := range sources(t) {
		m.file(t, path)
	}
	m.percentile("functions", m.functions, p90FunctionLines)
	m.percentile("files", m.files, p90FileLines)
	for _, f := range m.faults {
		t.Error(f)
	}
}

// sources lists the Go files, tests excluded.
func sources(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, path := range files(t) {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Fatal("no Go files found: this test would measure nothing")
	}
	return paths
}

// files lists what belongs to the repository: everything below its root but git's own and what .gitignore names.
func files(t *testing.T) []string {
	t.Helper()
	const root = "../.."
	var paths []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains([]string{root + "/.git", root + "/bin", root + "/dev-data"}, path):
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular() && !strings.HasSuffix(path, ".test") && !strings.HasSuffix(path, ".prof"):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func (m *measures) file(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text[:min(len(text), 400)], []byte("Code generated")) {
		return
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Count(text, []byte("\n"))
	m.files = append(m.files, lines)
	if lines > maxFileLines {
		m.faultf("%s has %d lines, more than %d: split it at the seam", path, lines, maxFileLines)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			m.function(fset, d)
		case *ast.GenDecl:
			m.declaration(fset, d)
		}
	}
}

func (m *measures) function(fset *token.FileSet, d *ast.FuncDecl) {
	where := fset.Position(d.Pos())
	n := fset.Position(d.End()).Line - where.Line + 1
	m.functions = append(m.functions, n)
	if n > maxFunctionLines {
		m.faultf("%s: %s has %d lines, more than %d", where, d.Name.Name, n, maxFunctionLines)
	}
	params := 0
	for _, p := range d.Type.Params.List {
		params += max(1, len(p.Names))
	}
	name := strings.TrimPrefix(where.Filename, "../../") + " " + d.Name.Name
	if _, foreign := foreignSignatures[name]; params > maxParameters && !foreign {
		m.faultf("%s: %s has %d parameters, more than %d", where, d.Name.Name, params, maxParameters)
	}
	if d.Name.Name == "init" && d.Recv == nil {
		m.faultf("%s: init() is not used here", where)
	}
	if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
		m.faultf("%s: %s is exported and not documented", where, d.Name.Name)
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

func (m *measures) declaration(fset *token.FileSet, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			where := fset.Position(s.Pos())
			if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
				m.faultf("%s: %s is exported and not documented", where, s.Name.Name)
			}
			if st, ok := s.Type.(*ast.StructType); ok {
				m.structure(fset, s.Name.Name, st)
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					m.faultf("%s: %s is exported and not documented", fset.Position(n.Pos()), n.Name)
				}
			}
		}
	}
}

func (m *measures) structure(fset *token.FileSet, name string, st *ast.StructType) {
	fields := 0
	for _, f := range st.Fields.List {
		fields += max(1, len(f.Names))
	}
	if _, wide := wideStructs[name]; fields > maxStructFields && !wide {
		m.faultf("%s: struct %s has %d fields, more than %d", fset.Position(st.Pos()), name, fields, maxStructFields)
	}
}

// percentile checks that nine of ten are within the bound.
func (m *measures) percentile(what string, values []int, bound int) {
	sort.Ints(values)
	if p90 := values[len(values)*9/10]; p90 > bound {
		m.faultf("the 90th percentile of %s is %d lines, more than %d", what, p90, bound)
	}
}

// TestNothingOutsideIsNamed: the repository stands alone.
func TestNothingOutsideIsNamed(t *testing.T) {
	outside := regexp.MustCompile(`\.\./shared/|/work/|/root/|/home/[a-z]`)
	looked := 0
	for _, path := range files(t) {
		if strings.Contains(path, "internal/law/") || strings.Contains(path, ".ndjson") || strings.HasSuffix(path, "go.sum") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not text
		}
		looked++
		if at := outside.FindIndex(text); at != nil {
			t.Errorf("%s:%d names %s, a path outside the repository", path, 1+bytes.Count(text[:at[0]], []byte("\n")), text[at[0]:at[1]])
		}
	}
	if looked < 100 {
		t.Errorf("looked at %d files only", looked)
	}
}
