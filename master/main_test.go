package master

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a test leaves a goroutine behind: whoever starts one in Open awaits it in Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
