package growth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/sutra-grid/sutra-grid/bench/report"
)

// Point is what was measured at one size of a series.
type Point struct {
	Size    int                `json:"size"`
	Figures map[string]float64 `json:"figures"` // by Column.Key, four digits each; what was not measured is absent
	Memory  []Memory           `json:"memory"`  // of every component there was, in the order of Budgets

	// Of the run that measured it.
	Version string `json:"version"`
	Date    string `json:"date"` // RFC 3339
	Machine string `json:"machine"`
}

// Set writes a figure, rounded to four digits; what is no number is left out.
func (p *Point) Set(key string, v float64) {
	if p.Figures == nil {
		p.Figures = map[string]float64{}
	}
	if rounded := report.Of(v); rounded != nil {
		p.Figures[key] = *rounded
	}
}

// Memory is the most that a process of a component took, MiB.
type Memory struct {
	Component string  `json:"component"`
	Heap      float64 `json:"heap_mib"`
	RSS       float64 `json:"rss_mib"`
}

// Series is the points of one subject, by size.
type Series struct {
	ID     string  `json:"id"`
	Note   string  `json:"note,omitempty"` // why the last run lacks points
	Points []Point `json:"points"`
}

// Of is the series of a subject among all; one without points if it was never measured.
func Of(all []Series, id string) Series {
	if i := slices.IndexFunc(all, func(s Series) bool { return s.ID == id }); i >= 0 {
		return all[i]
	}
	return Series{ID: id}
}

// Merge is all series of the subjects, in their order, with a fresh one's points put in: each replaces what there was of its size. Points of
// a size that is no subject's stay only as long as nobody measures their series again.
func Merge(subjects []Subject, old []Series, fresh Series) []Series {
	merged := make([]Series, 0, len(subjects))
	for _, s := range subjects {
		series := Of(old, s.ID)
		if s.ID == fresh.ID {
			series = Series{ID: s.ID, Note: fresh.Note, Points: slices.Clone(fresh.Points)}
			for _, p := range Of(old, s.ID).Points {
				if slices.Contains(slices.Concat(s.Sizes, s.Large), p.Size) && !slices.ContainsFunc(fresh.Points, func(f Point) bool { return f.Size == p.Size }) {
					series.Points = append(series.Points, p)
				}
			}
			slices.SortFunc(series.Points, func(a, b Point) int { return cmp.Compare(a.Size, b.Size) })
		}
		merged = append(merged, series)
	}
	return merged
}

// Read reads GROWTH.json; there being none is no error.
func Read(path string) (all []Series, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// Encode is the text of GROWTH.json.
func Encode(all []Series) ([]byte, error) {
	text, err := json.MarshalIndent(all, "", "  ")
	return append(text, '\n'), err
}
