package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/history"
)

func sample() *episode.Verdict {
	v := &episode.Verdict{
		Plan: episode.Plan{Seed: 7, Rig: "s", Masters: 3, Shards: 2, Replicas: 1, Workloads: []string{"W3"}, Clients: 5, Rate: 500,
			Faults: []rig.Fault{{Kind: rig.KillLeader, Dice: 1, Hold: time.Second, Rest: time.Second}}},
		Version: "abc", Began: time.Unix(1, 0).UTC(), Took: 3 * time.Second, OK: 600, Failed: 4, Unknown: 1,
		Findings: []episode.Finding{{Rule: episode.RuleCheckers, What: "G0", Text: "T1 </pre><script>alert(1)</script>"}},
		Faults:   []episode.Shown{{Fault: rig.Fault{Kind: rig.KillLeader}, Began: time.Second, Healed: 2 * time.Second, Proof: rig.Proof{What: "exits seen", Count: 1, Met: "master-2"}}},
		Checkers: []history.Report{{Checker: "bank", Checked: 605}},
		Usage:    []episode.Sample{{At: time.Second, Processes: []rig.Usage{{Process: "master-1", Files: 31, RSSBytes: 64 << 20}}}},
		Again:    "gridfault replay out/s-7-W3",
	}
	for i := range 12 {
		v.Timeline = append(v.Timeline, episode.Bucket{At: time.Duration(i) * 250 * time.Millisecond, OK: 50, Failed: i % 2, Unknown: i % 3, Median: time.Millisecond, Worst: time.Second, Leader: []string{"master-2", "", "master-1"}[i/4]})
	}
	return v
}

// TestWrite: what is written can be read again, and both the directory and the file name it.
func TestWrite(t *testing.T) {
	dir, v := t.TempDir(), sample()
	if err := Write(dir, v); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, VerdictFile)} {
		if again, err := Read(path); err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%s: %+v, %v", path, again, err)
		}
	}
	for text, want := range map[string]string{`{"plan":7}`: "not a verdict", `{"unknown_field":1}`: "unknown_field", "": "not a verdict"} {
		path := filepath.Join(t.TempDir(), VerdictFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPage: it says what there is to say, is whole, and text of a history stays text.
func TestPage(t *testing.T) {
	page, err := Page(sample())
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{"not valid", "kill.leader", "exits seen: 1", "master-2", "G0", "bank", "gridfault replay out/s-7-W3", "64.0 MiB", "&lt;script&gt;"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(text, "<script") || strings.Contains(text, "http") || strings.Contains(text, "ZgotmplZ") {
		t.Error("the page runs something, or needs something from elsewhere")
	}
	for _, svg := range strings.Split(text, "<svg")[1:] {
		d := xml.NewDecoder(strings.NewReader("<svg" + svg[:strings.Index(svg, "</svg>")] + "</svg>"))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("the drawing: %v", err)
			}
		}
	}
	if n := strings.Count(text, `<rect class="ok"`); n != 12+1 { // and the legend
		t.Errorf("%d bars of successes, want 12", n-1)
	}
	if n := strings.Count(text, `class="leadername"`); n != 2 {
		t.Errorf("%d new leaders, want 2", n)
	}
	if _, err := Page(&episode.Verdict{}); err != nil {
		t.Errorf("a verdict with nothing in it: %v", err)
	}
}

// TestLine: which faults there were, by name, and what was not judged, stand in it.
func TestLine(t *testing.T) {
	v := sample()
	v.Plan.Faults = append(v.Plan.Faults, rig.Fault{Kind: rig.KindHook, Label: "cut-az1"})
	v.LeftOut = []string{"event storage: none"}
	if line := Line(v); !strings.Contains(line, "W3, kill.leader hook:cut-az1: 600 ok") || !strings.Contains(line, "not judged: event storage: none") {
		t.Error(line)
	}
	if v.Plan.Faults = nil; !strings.Contains(Line(v), "W3, no faults: ") {
		t.Error(Line(v))
	}
	v.Plan.Given, v.Wrote = &episode.Given{Masters: []string{"h:1"}, Hook: "/fault.sh"}, []string{"concepts w3.X.*"}
	page, err := Page(v)
	for _, want := range []string{"at h:1", "by /fault.sh", "concepts w3.X.*", "<li>event storage: none</li>"} {
		if err != nil || !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q, %v", want, err)
		}
	}
}

// TestSlopes: of a line, its slope; and what does not grow has none.
func TestSlopes(t *testing.T) {
	var samples []episode.Sample
	for i := range 21 {
		at := time.Duration(i) * 3 * time.Minute
		samples = append(samples, episode.Sample{At: at, Processes: []rig.Usage{{Process: "node-1", Files: 40, RSSBytes: 1000 + int64(i)*50}}})
	}
	want := []Slope{{"node-1", "files", 40, 40, 0, 21}, {"node-1", "rss_bytes", 1000, 2000, 1000, 21}}
	got := Slopes(samples)
	for i := range got {
		got[i].PerHour = float64(int64(got[i].PerHour + 0.5))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	dir, out := t.TempDir(), new(bytes.Buffer)
	if err := WriteSlopes(dir, out, samples); err != nil || !strings.Contains(out.String(), "+1000") {
		t.Errorf("%s, %v", out, err)
	}
}
