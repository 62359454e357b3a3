//go:build race

package vector

// raceDetector is on: sizes that are about quality, not about concurrency, would take minutes.
const raceDetector = true
