package storagenode

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain finds goroutines that a Close has left behind. With a node's configuration in the environment the program is
// that node: a test that kills processes starts itself (kills_test.go).
func TestMain(m *testing.M) {
	if cfg := os.Getenv(childVariable); cfg != "" {
		os.Exit(runChild(cfg))
	}
	goleak.VerifyTestMain(m)
}
