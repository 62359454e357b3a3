package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"gopkg.in/yaml.v3"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// The output formats.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// printer is where every command's outcome goes: tables for people, JSON for programs.
type printer struct {
	w, errw io.Writer
	format  string
}

func (p *printer) setFormat(f string) error {
	if f != formatTable && f != formatJSON && f != formatYAML {
		return usagef("--output %q: want table, json or yaml", f)
	}
	p.format = f
	return nil
}

func (p *printer) json() bool { return p.format == formatJSON }

// show prints v as JSON or YAML, or calls people for a terminal.
func (p *printer) show(v any, people func(w io.Writer)) error {
	switch p.format {
	case formatYAML:
		return p.yaml(v)
	case formatJSON:
	default:
		people(p.w)
		return nil
	}
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// yaml prints v as it is in JSON: a JSON text is a YAML text of another style.
func (p *printer) yaml(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	plainYAML(&doc)
	enc := yaml.NewEncoder(p.w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(&doc), enc.Close())
}

func plainYAML(n *yaml.Node) {
	n.Style = 0
	for _, below := range n.Content {
		plainYAML(below)
	}
}

// each prints one of many: a line for people, a JSON object a line or a YAML document for programs.
func (p *printer) each(v any, line string) error {
	switch p.format {
	case formatYAML:
		if _, err := io.WriteString(p.w, "---\n"); err != nil {
			return err
		}
		return p.yaml(v)
	case formatJSON:
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	_, err := fmt.Fprintln(p.w, line)
	return err
}

// fail prints the one line of an error, and for programs the same as JSON, and gives the exit status.
func (p *printer) fail(err error) int {
	status := exitStatus(err)
	var printed statusError
	if errors.As(err, &printed) {
		return status
	}
	fmt.Fprintf(p.errw, "gridctl: %s\n", oneLine(err.Error()))
	if p.json() {
		body := map[string]any{"error": err.Error(), "code": "failed", "exit": status}
		var grid *event.Error
		if errors.As(err, &grid) {
			body["code"] = string(grid.Kind)
		} else if status == exitUsage {
			body["code"] = string(event.KindInvalid)
		}
		if grid != nil && grid.Oldest > 0 {
			body["oldest"], body["resume_from"] = grid.Oldest, grid.ResumeFrom
		}
		_ = json.NewEncoder(p.w).Encode(body)
	}
	return status
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// rows prints a plain aligned table.
func rows(w io.Writer, header []any, lines [][]any) {
	t := table.NewWriter()
	t.SetStyle(plainStyle())
	t.AppendHeader(header)
	for _, l := range lines {
		t.AppendRow(l)
	}
	fmt.Fprintln(w, t.Render())
}

// plainStyle is what kubectl's users expect: columns by spaces, no frames, easy to cut and grep.
func plainStyle() table.Style {
	s := table.StyleDefault
	s.Options = table.OptionsNoBordersAndSeparators
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	return s
}

// dash shows an empty cell.
func dash[T ~string](s T) string {
	if s == "" {
		return "-"
	}
	return string(s)
}

// confirm asks a person before something destructive. Where nobody can answer, or programs read the outcome, it is refused:
// they say --yes.
func (p *printer) confirm(in io.Reader, question string) error {
	refused := &event.Error{Kind: event.KindRefused, Message: "not confirmed; say yes, or give --yes"}
	if p.json() || in == nil {
		return refused
	}
	fmt.Fprintf(p.errw, "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return refused
}
