package main

import (
	"time"

	"github.com/sutra-grid/sutra-grid/bench/soak"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// clock sorts the seconds of a run into minutes and parts.
type clock struct {
	length  time.Duration
	told    func(p soak.Part) // called with each minute
	parts   [soak.Parts]load.Tally
	minutes []soak.Part

	minute  load.Tally // the present one
	from    time.Duration
	through time.Duration
}

// second implements load.Plan.Progress. A second belongs to where its middle is.
func (c *clock) second(s load.Second) {
	middle := max(s.At-time.Second/2, 0)
	if middle >= c.from+time.Minute {
		c.over()
		c.from = middle.Truncate(time.Minute)
	}
	c.minute.Add(s)
	c.through = s.At
	c.parts[min(int(middle*soak.Parts/c.length), soak.Parts-1)].Add(s)
}

// over ends the present minute.
func (c *clock) over() {
	if c.minute.Done+c.minute.Failed == 0 {
		return
	}
	p := soak.PartOf(c.from, min(c.from+time.Minute, c.through), &c.minute)
	c.minutes, c.minute = append(c.minutes, p), load.Tally{}
	c.told(p)
}

func (c *clock) byPart() (all []soak.Part) {
	for i := range c.parts {
		n := time.Duration(i)
		all = append(all, soak.PartOf(n*c.length/soak.Parts, (n+1)*c.length/soak.Parts, &c.parts[i]))
	}
	return all
}
