// Package report keeps the rows P1 to P15 of docs/performance.md: their figures, what of an earlier run stays beside new ones, and the two
// files they are written to.
//
//	rounds -> Compare -> Row -> Merge with the last run -> RESULTS.json, RESULTS.md
//
// It knows no servers, so all of it is tested without any.
package report
