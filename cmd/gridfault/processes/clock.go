package processes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The paces of bent clocks and of looking at them.
const (
	bendEvery   = 100 * time.Millisecond
	noticeable  = 1500 * time.Millisecond // HTTP tells the time in seconds
	watchEvery  = 170 * time.Millisecond  // in step with no strobe
	leastDrift  = 3 * time.Second
	leastBump   = 3
	greatBump   = 3600
	greatStrobe = 120
)

// bumpClock has the wall clock of a master jump, forward or back, for as long as the fault lasts.
func bumpClock(ctx context.Context, t *trial) error {
	by := t.sign() * time.Duration(t.roll(leastBump, greatBump)) * time.Second
	return t.bend(ctx, func(time.Duration) time.Duration { return by })
}

// strobeClock has it jump to and fro, at once for the first time.
func strobeClock(ctx context.Context, t *trial) error {
	by := t.sign() * time.Duration(t.roll(leastBump, greatStrobe)) * time.Second
	half := time.Duration(t.roll(2, 10)) * bendEvery
	return t.bend(ctx, func(since time.Duration) time.Duration { return by * ((since/half + 1) % 2) })
}

// driftClock has it run up to three times as fast, or stand or run backwards; it begins noticeably wrong.
func driftClock(ctx context.Context, t *trial) error {
	sign, tenths := t.sign(), time.Duration(t.roll(1, 20))
	return t.bend(ctx, func(since time.Duration) time.Duration { return sign * (leastDrift + since*tenths/10) })
}

func (t *trial) sign() time.Duration { return time.Duration(1 - 2*t.rng.IntN(2)) }

// bend moves the clock of a master by what offset says at each moment since the beginning, and reads that clock from outside meanwhile.
// The reads that found it wrong are the proof.
func (t *trial) bend(ctx context.Context, offset func(since time.Duration) time.Duration) error {
	v, err := t.leader(ctx)
	if err != nil {
		return err
	}
	if t.rng.IntN(3) == 0 {
		v.m = pick(t, t.g.of(roleMaster))
	}
	p, err := v.open()
	if err != nil {
		return err
	}
	t.meets(v)
	clock, err := bendClock(p)
	if err != nil {
		p.close()
		return fmt.Errorf("the clock of %s: %w", v, err)
	}
	err = clock.set(offset(0))
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	done, watched := make(chan error, 1), make(chan struct{})
	go func() { done <- clock.follow(work, offset) }()
	go func() { defer close(watched); t.watchClock(work, v.m) }()
	t.onHeal(func(context.Context) error {
		defer p.close()
		stop()
		<-watched
		err := <-done
		if !v.m.proc.Load().lives() {
			return clock.mem.Close() // it takes its clock with it
		}
		lo, hi, unknown := vdsoRange(p.pid)
		return errors.Join(err, unknown, clock.restore(p, lo, hi))
	})
	return err
}

// follow moves the clock until ctx ends.
func (v *vdso) follow(ctx context.Context, offset func(time.Duration) time.Duration) error {
	begun := time.Now()
	tick := time.NewTicker(bendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return v.set(0)
		case <-tick.C:
			if err := v.set(offset(time.Since(begun))); err != nil {
				return err
			}
		}
	}
}

// watchClock counts how often a master's answer bears a time that is not ours.
func (t *trial) watchClock(ctx context.Context, m *machine) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if _, header, err := t.g.get(ctx, m, "/metrics"); err == nil { // one that does not answer proves nothing
			says, err := http.ParseTime(header.Get("Date"))
			if err == nil && time.Since(says).Abs() > noticeable+time.Second {
				t.count.Add(1)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
