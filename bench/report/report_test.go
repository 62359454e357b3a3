package report

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
	unsorted := []float64{3, 1, 2}
	if Median(unsorted); !slices.Equal(unsorted, []float64{3, 1, 2}) {
		t.Error("the caller's values were sorted")
	}
}

// TestCompare: the ratio is the median of rounds' ratios, so a round in which both were slow counts as any other.
func TestCompare(t *testing.T) {
	c := Compare([]float64{100, 10, 60}, []float64{10, 2, 10})
	if c.Value != 60 || c.Peer != 10 || c.Ratio != 6 || c.Spread != [2]float64{5, 10} {
		t.Errorf("%+v", c)
	}
	broken := Compare([]float64{100, 0}, []float64{0, 5})
	if !math.IsNaN(broken.Ratio) || !math.IsNaN(broken.Spread[0]) {
		t.Errorf("rounds without one of the two: %+v", broken)
	}
	var r Row
	if r.Set(broken); r.Ratio != nil || r.Spread != nil || r.Value == nil {
		t.Errorf("%+v", r)
	}
	if r.Set(c); *r.Ratio != 6 || *r.Spread != [2]float64{5, 10} || *r.Peer != 10 || *r.Value != 60 {
		t.Errorf("%+v", r)
	}
	if r.SetAlone([]float64{3, 1, 2}); *r.Value != 2 || r.Peer != nil || r.Ratio != nil || *r.Spread != [2]float64{1, 3} {
		t.Errorf("%+v", r)
	}
}

func TestFiguresHaveFourDigits(t *testing.T) {
	for v, want := range map[float64]float64{12345.678: 12350, 0.00123456: 0.001235, -6.66666: -6.667, 0: 0} {
		if got := Of(v); got == nil || *got != want {
			t.Errorf("%v becomes %v, want %v", v, *got, want)
		}
	}
	if Of(math.NaN()) != nil || Of(math.Inf(1)) != nil {
		t.Error("what is no number is a figure")
	}
	for v, want := range map[float64]string{1234567: "1,234,567", 999: "999", 1000: "1,000", -4321: "-4,321", 0.5: "0.5", 12.345: "12.35"} {
		if got := Number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func subjects() []Subject {
	return []Subject{{"P1", "commits", "≥ 6 ×"}, {"P2", "p50 | one client", "≤ 0.7 ×"}, {"P3", "reads", "≥ 10 ×"}}
}

// TestMerge: a short run replaces what it measured, and the rest stays as it was, with its own version and date.
func TestMerge(t *testing.T) {
	old := []Row{{ID: "P3", Value: Of(3), Version: "v1", Date: "then", Target: "an old target"}, {ID: "P1", Value: Of(1), Version: "v1"}, {ID: "P99", Value: Of(9)}}
	fresh := []Row{{ID: "P1", Value: Of(11), Version: "v2"}}
	rows := Merge(subjects(), old, fresh)
	if len(rows) != 3 || rows[0].ID != "P1" || rows[1].ID != "P2" || rows[2].ID != "P3" {
		t.Fatalf("%+v", rows)
	}
	if *rows[0].Value != 11 || rows[0].Version != "v2" {
		t.Errorf("the fresh row: %+v", rows[0])
	}
	if rows[1].Measured() || rows[1].Met || rows[1].Note == "" || rows[1].Target != "≤ 0.7 ×" {
		t.Errorf("a row that never was: %+v", rows[1])
	}
	if *rows[2].Value != 3 || rows[2].Version != "v1" || rows[2].Date != "then" || rows[2].Target != "≥ 10 ×" {
		t.Errorf("the kept row: %+v", rows[2])
	}
}

// TestFiles: what is written is read again, the form is the documented one, and no file is not an error.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.json")
	if rows, err := Read(path); err != nil || rows != nil {
		t.Errorf("no file: %v, %v", rows, err)
	}
	row := Row{ID: "P1", Unit: "events/s", Target: "t", Met: true, Note: "n", Version: "v", Date: "d", Machine: "m", Rounds: 5}
	row.Set(Comparison{Value: 60, Peer: 10, Ratio: 6, Spread: [2]float64{5, 7}})
	text, err := Encode([]Row{row, {ID: "P2"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id": "P1"`, `"value": 60`, `"unit": "events/s"`, `"peer": 10`, `"ratio": 6`, `"target": "t"`, `"met": true`, `"note": "n"`, `"value": null`, `"spread": null`, "\"spread\": [\n      5,\n      7\n    ]"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	rows, err := Read(path)
	if err != nil || len(rows) != 2 || *rows[0].Ratio != 6 || rows[1].Measured() || rows[0].Rounds != 5 {
		t.Errorf("%+v, %v", rows, err)
	}
	if err := os.WriteFile(path, text[:20], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a torn file: %v", err)
	}
}

// TestTable: one line a row, whatever is in its texts; what was missed and what was not measured show.
func TestTable(t *testing.T) {
	met, missed := Row{ID: "P1", Unit: "events/s", Met: true, Version: "v2", Date: "now", Machine: "m", Rounds: 5, Note: "two\nlines"}, Row{ID: "P2", Unit: "ms"}
	met.Set(Comparison{Value: 60_000, Peer: 10_000, Ratio: 6, Spread: [2]float64{5.5, 7}})
	missed.SetAlone([]float64{0.9})
	text := Table(subjects(), Merge(subjects(), []Row{met, missed}, nil), []string{"about the run"})
	for _, want := range []string{
		"- about the run\n",
		"| P1 | commits | 60,000 events/s | 10,000 events/s | 6 | 5.5 to 7 | ≥ 6 × | yes |\n",
		"| P2 | p50 \\| one client | 0.9 ms | - | - | 0.9 to 0.9 | ≤ 0.7 × | **no** |\n",
		"| P3 | reads | - | - | - | - | ≥ 10 × | - |\n",
		"- **P1** two lines (v2, now, 5 rounds, m)\n",
		"- **P3** not measured yet\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
