// Package e2e tests the real programs: a whole grid of real processes on loopback, real data, real kills.
//
//	gridctl dev -> import while processes are killed -> every record found, from both ends; the feed without a gap
//	three gridmasters -> lose the leader under load, ten times -> no call failed, nothing lost or done twice, the gap
//
// It has no code besides its tests. GRID_E2E_FILE names the file to import (default: the sample in testdata); with
// GRID_E2E_BARS the time without acknowledged writes has bars, which need a machine that has nothing else to do.
package e2e
