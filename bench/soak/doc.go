// Package soak judges whether a grid under steady load grows, and writes what it found.
//
//	Samples, latencies by part -> Judge: Growth per process and measure -> Rules -> SOAK.md, SOAK.json
//
// A rule holds, is broken, or could not be judged because there was too little to see; the third is never the first. The package knows no
// servers and no clock, so all of it is tested without any.
package soak
