package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite: the edits fit the runtime of the Go version in use, and each is in its file.
func TestWrite(t *testing.T) {
	from, err := runtimeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := write(from, dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var o struct{ Replace map[string]string }
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		b, err := os.ReadFile(o.Replace[filepath.Join(from, e.file)])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(b), e.become) != 1 {
			t.Errorf("%s: %q is not there once", e.file, e.become)
		}
	}
}

// TestUnknownRuntime: another text is refused, and so is one that says the same twice.
func TestUnknownRuntime(t *testing.T) {
	e := edit{"a.go", "func f()", "x := 1", "x := 2"}
	for text, want := range map[string]string{
		"func f() { x := 1 }":                              "func f() { x := 2 }",
		"func g() { x := 1 }\nfunc f() { x := 1 }":         "func g() { x := 1 }\nfunc f() { x := 2 }",
		"func g() { x := 1 }":                              "",
		"func f() { x := 3 }":                              "",
		"func f() { x := 1 }\nfunc f() { x := 1; y := 2 }": "",
	} {
		got, err := e.apply(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	e.anchor = ""
	if _, err := e.apply("x := 1; x := 1"); err == nil {
		t.Error("what stands there twice was replaced")
	}
	if _, err := write(t.TempDir(), t.TempDir()); err == nil {
		t.Error("a runtime without files was taken")
	}
}
