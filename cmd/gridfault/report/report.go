// Package report writes what a run has shown: verdict.json for programs, and report.html, one file that needs nothing else, for people.
//
//	episode.Verdict -> verdict.json -> report.html: findings, timeline of operations, faults, latencies and leaders, use of memory and disk
//
// Invariant: the page is made from verdict.json alone, so that a page can be made anew from a run that was kept.
package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
)

// The files of a run, beside its histories, logs and data.
const (
	VerdictFile = "verdict.json"
	PageFile    = "report.html"
)

// maxVerdict bounds a verdict that is read, in bytes.
const maxVerdict = 64 << 20

//go:embed page.html
var page string

// Write writes both files into dir.
func Write(dir string, v *episode.Verdict) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the verdict: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, VerdictFile), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the verdict: %w", err)
	}
	html, err := Page(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, PageFile), html, 0o644)
}

// Read reads a verdict: of a directory, or of the file itself.
func Read(path string) (*episode.Verdict, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		path = filepath.Join(path, VerdictFile)
		if info, err = os.Stat(path); err != nil {
			return nil, err
		}
	}
	if info.Size() > maxVerdict {
		return nil, fmt.Errorf("read %s: %d bytes, a verdict has at most %d", path, info.Size(), maxVerdict)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := new(episode.Verdict)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return nil, fmt.Errorf("read %s: not a verdict of this version: %w", path, err)
	}
	return v, nil
}

// Page is report.html.
func Page(v *episode.Verdict) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{"seconds": seconds, "millis": millis, "bytes": size}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, struct {
		*episode.Verdict
		Plot plot
	}{v, draw(v)}); err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	return out.Bytes(), nil
}

// Line is a verdict in one line: what was run, what was seen, and what is wrong with it.
func Line(v *episode.Verdict) string {
	var kinds []string
	for _, f := range v.Plan.Faults {
		kinds = append(kinds, f.Name())
	}
	if u := v.Plan.Under; u != nil {
		kinds = append(kinds, "under", string(u.Kind))
	}
	if len(kinds) == 0 {
		kinds = []string{"no faults"}
	}
	word := "valid"
	if !v.Valid {
		word = "NOT VALID: " + strings.Join(v.Classes(), ", ")
	}
	if len(v.LeftOut) > 0 {
		word += "; not judged: " + strings.Join(v.LeftOut, "; ")
	}
	if v.Repeats {
		word += "; trace " + v.Trace
	}
	return fmt.Sprintf("seed %d, rig %s, %s, %s: %d ok, %d failed, %d unknown in %s: %s", v.Plan.Seed, v.Plan.Rig, strings.Join(v.Plan.Workloads, "+"),
		strings.Join(kinds, " "), v.OK, v.Failed, v.Unknown, v.Took.Round(time.Second/10), word)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
