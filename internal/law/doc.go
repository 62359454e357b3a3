// Package law holds the rules of this repository that are tests: who may import whom, and how large things may grow.
//
//	source tree -> imports, measures -> a failing test that names the place
//
// It has no code besides its tests and imports nothing of ours.
package law
