package master

import (
	"errors"
	"slices"
)

// closers undoes an assembly: each step adds how it is undone, run does it in reverse.
type closers struct{ steps []func() error }

func (c *closers) add(step func() error) { c.steps = append(c.steps, step) }

// run takes all steps, once, and returns their errors.
func (c *closers) run() error {
	var errs []error
	for _, step := range slices.Backward(c.steps) {
		errs = append(errs, step())
	}
	c.steps = nil
	return errors.Join(errs...)
}
