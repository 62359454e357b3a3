package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Row is one line of the results; what was not measured is null.
type Row struct {
	ID     string      `json:"id"`
	Value  *float64    `json:"value"` // in Unit; the median over rounds
	Unit   string      `json:"unit"`
	Peer   *float64    `json:"peer"`   // the other system's value in the same runs; null: there is none
	Ratio  *float64    `json:"ratio"`  // median over rounds of ours by the peer's
	Spread *[2]float64 `json:"spread"` // lowest and highest of the rounds: of Ratio, or of Value where there is no peer
	Target string      `json:"target"`
	Met    bool        `json:"met"`
	Note   string      `json:"note"`

	// Of the run that this row is of: it may be an earlier one than that of other rows.
	Version string `json:"version"`
	Date    string `json:"date"` // RFC 3339
	Machine string `json:"machine"`
	Rounds  int    `json:"rounds"`
}

// Measured tells whether the row has a figure.
func (r *Row) Measured() bool { return r.Value != nil }

// Subject is what a row is about, whether or not it was ever measured.
type Subject struct {
	ID, Measure, Target string
}

// Merge is the rows of all subjects, in their order: a fresh one where there is one, else the old one, else one that says it was never
// measured. Texts that belong to the subject are its own, also of old rows.
func Merge(subjects []Subject, old, fresh []Row) []Row {
	rows := make([]Row, 0, len(subjects))
	for _, s := range subjects {
		row := Row{ID: s.ID, Note: "not measured yet"}
		for _, from := range [][]Row{old, fresh} {
			if i := slices.IndexFunc(from, func(r Row) bool { return r.ID == s.ID }); i >= 0 {
				row = from[i]
			}
		}
		row.Target = s.Target
		rows = append(rows, row)
	}
	return rows
}

// Read reads RESULTS.json; there being none is no error.
func Read(path string) ([]Row, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rows []Row
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rows, nil
}

// Encode is the text of RESULTS.json.
func Encode(rows []Row) ([]byte, error) {
	text, err := json.MarshalIndent(rows, "", "  ")
	return append(text, '\n'), err
}
