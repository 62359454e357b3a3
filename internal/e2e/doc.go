// Package e2e tests the real programs: a whole grid of real processes on loopback, real data, real kills.
//
//	gridctl dev -> import while processes are killed -> every record found, from both ends; the feed without a gap
//
// It has no code besides its tests. GRID_E2E_FILE names the file to import (default: the sample in testdata).
package e2e
