package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/client"
)

// TestAFailedFlushIsNotHiddenByABrokenLine: records in front of a broken line that could not be stored are what the user is told of.
func TestAFailedFlushIsNotHiddenByABrokenLine(t *testing.T) {
	store, err := client.New(client.Config{Masters: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var broken []int
	im := &importer{store: store, progress: &progress{}, report: func(line int, _ error) { broken = append(broken, line) }}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no grid will answer
	input := &importFile{name: "input", text: strings.NewReader(`{"concept":{"id":"a","content":"x"}}` + "\n{broken\n")}
	err = im.run(ctx, input)
	if err == nil || errors.Is(err, errBroken) {
		t.Errorf("the import ends with %v, which hides that line 1 was not stored", err)
	}
	if len(broken) != 1 || broken[0] != 2 || im.concepts != 0 {
		t.Errorf("broken lines %v, %d concepts stored", broken, im.concepts)
	}
}
