package storagenode

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain finds goroutines that a Close has left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
