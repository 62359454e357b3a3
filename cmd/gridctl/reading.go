package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/transport"
)

// readFlags are the flags of every command that reads, behind its own.
func readFlags(own ...cli.Flag) []cli.Flag {
	return slices.Concat(own, []cli.Flag{
		&cli.StringFlag{Name: "consistency", Value: transport.Linearizable, EnvVars: []string{"GRID_CONSISTENCY"},
			Usage: "linearizable (nothing acknowledged is missing), leader (the leader's word) or stale (any master's state)"},
		&cli.DurationFlag{Name: "max-staleness", Usage: "with --consistency stale: refuse a state older than this"},
		&cli.Uint64Flag{Name: "min-seq", Usage: "wait until the answering master has applied this event: read your own writes"},
	})
}

// readingOf is what the flags ask for.
func readingOf(c *cli.Context) (transport.Reading, error) {
	limit := c.Duration("max-staleness")
	if c.IsSet("max-staleness") && (limit < time.Millisecond || limit.Milliseconds() > math.MaxUint32) {
		return transport.Reading{}, usagef("--max-staleness %s: want at least 1ms", limit)
	}
	r := transport.Reading{Consistency: c.String("consistency"), MaxStalenessMillis: uint32(limit.Milliseconds()), MinSeq: c.Uint64("min-seq")}
	if err := r.Validate(); err != nil {
		return r, usageError{err}
	}
	return r, nil
}

// withReading runs a verb that takes exactly n arguments and reads.
func withReading(n int, verb func(c *cli.Context, s *session, how transport.Reading) error) cli.ActionFunc {
	return withSession(n, func(c *cli.Context, s *session) error {
		how, err := readingOf(c)
		if err != nil {
			return err
		}
		return verb(c, s, how)
	})
}

// readJSON is what the JSON of an answer says about how it was read.
type readJSON struct {
	Seq uint64 `json:"seq"`
	transport.Read
}

// showRead says below a table how old a stale answer is; the others need no word.
func showRead(w io.Writer, seq uint64, r transport.Read) {
	if r.ReadMode == transport.Stale {
		fmt.Fprintf(w, "\nstale: the state at seq %d, at most %v old\n", seq, time.Duration(r.AgeMillis)*time.Millisecond)
	}
}
