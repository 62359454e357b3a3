package dev

import (
	"errors"
	"fmt"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// The time each group has to end in good order before it is killed. Together they, and the moments a killed process takes, stay below
// the 20 s within which a stop is promised.
const (
	agentPatience  = 7 * time.Second // they end their nodes first
	nodePatience   = 3 * time.Second // those whose agent is dead
	masterPatience = 3 * time.Second
	eventsPatience = 2500 * time.Millisecond
	killPatience   = time.Second // from SIGKILL to the end, on a busy machine
)

// target is a process to end.
type target struct {
	id string
	platform.Handle
	done <-chan struct{} // closed when it has ended
}

// endAll asks all targets to end, kills those that have not when patience is over, and names those.
func endAll(targets []target, patience time.Duration) (killed []string, err error) {
	var errs []error
	for _, t := range targets {
		if err := t.Terminate(); err != nil {
			errs = append(errs, fmt.Errorf("end %s: %w", t.id, err))
		}
	}
	remaining := await(targets, patience)
	for _, t := range remaining {
		killed = append(killed, t.id)
		if err := t.Kill(); err != nil {
			errs = append(errs, fmt.Errorf("kill %s: %w", t.id, err))
		}
	}
	for _, t := range await(remaining, killPatience) {
		errs = append(errs, fmt.Errorf("%s still runs after it was killed", t.id))
	}
	return killed, errors.Join(errs...)
}

// await waits for all targets, at most so long, and returns those that have not ended.
func await(targets []target, limit time.Duration) (remaining []target) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for i, t := range targets {
		select {
		case <-t.done:
		case <-timer.C:
			for _, t := range targets[i:] {
				select {
				case <-t.done:
				default:
					remaining = append(remaining, t)
				}
			}
			return remaining
		}
	}
	return nil
}

// watched makes a target of an adopted instance.
func watched(id string, in *platform.Instance) target {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range in.Notices { // closed behind the exit
		}
	}()
	return target{id, in, done}
}
