package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/episode"
)

// knownPlans are those that have found something, one a line, whole: a seed alone would be another plan when more faults can be drawn.
//
//go:embed testdata/plans.jsonl
var knownPlans []byte

// known is the plans that have found something on a rig.
func known(rig string) ([]episode.Plan, error) {
	var out []episode.Plan
	lines := bufio.NewScanner(bytes.NewReader(knownPlans))
	lines.Buffer(nil, len(knownPlans)+1)
	for n := 1; lines.Scan(); n++ {
		var p episode.Plan
		err := json.Unmarshal(lines.Bytes(), &p)
		if err == nil {
			err = p.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("testdata/plans.jsonl, line %d: %w", n, err)
		}
		if p.Rig == rig {
			out = append(out, p)
		}
	}
	return out, lines.Err()
}
