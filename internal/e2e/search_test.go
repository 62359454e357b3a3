package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sutra-grid/sutra-grid/transport"
)

// near is what `gridctl search` prints.
type near struct {
	Results []struct {
		ID, Content string
		Score       float32
	}
}

// TestSearchByText: what a grid of real processes learnt by its content is found by `gridctl search`, over all shards, also after the
// whole grid was restarted.
func TestSearchByText(t *testing.T) {
	t.Parallel()
	g := startGrid(t)
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	defer pool.Close()
	contents := []string{"the cat sat on the mat", "stars burn hydrogen for billions of years", "bread is baked from flour and water",
		"rivers carry water to the sea", "a violin has four strings", "bees make honey from nectar", "glaciers carve deep valleys"}
	learned, err := transport.As[transport.LearnBatchOk](pool.Call(t.Context(), g.masters()[0], &transport.LearnBatch{Contents: contents}))
	if err != nil {
		t.Fatal(err)
	}
	search := func(want string, args ...string) (found near) {
		t.Helper()
		g.ctlJSON(&found, append([]string{"search", "-k", "3"}, args...)...)
		if len(found.Results) != 3 || found.Results[0].ID != learned.ConceptIDs[1] || found.Results[0].Content != want || found.Results[0].Score <= found.Results[1].Score {
			t.Errorf("gridctl search %v found %+v", args, found)
		}
		return found
	}
	search(contents[1], "--text", "a star burns hydrogen")
	exact := search(contents[1], "--text", "a star burns hydrogen", "--exact", "--ef", "100")
	embedded, err := transport.As[transport.EmbedOk](pool.Call(t.Context(), g.masters()[1], &transport.Embed{Texts: []string{"a star burns hydrogen"}}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(embedded.Embeddings[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "vector.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := search(contents[1], "--vector-file", file); got.Results[0].Score != exact.Results[0].Score {
		t.Errorf("by vector %+v, by text %+v", got, exact)
	}
	var none near
	g.ctlJSON(&none, "search", "--text", "a star", "--tag", "nobody's")
	if len(none.Results) != 0 {
		t.Errorf("a tag that nobody has: %+v", none)
	}
	g.refused(t, 2, "search", "--text", "a star", "-k", "1001")
	g.stop()
	g.start()
	search(contents[1], "--text", "a star burns hydrogen")
	checkBench(t, g)
}
