//go:build faults

package fault

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errnos are the errors that can be armed.
var errnos = map[string]syscall.Errno{
	"EACCES": syscall.EACCES, "EAGAIN": syscall.EAGAIN, "EBADF": syscall.EBADF, "EDQUOT": syscall.EDQUOT, "EINTR": syscall.EINTR,
	"EIO": syscall.EIO, "EMFILE": syscall.EMFILE, "ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "ETIMEDOUT": syscall.ETIMEDOUT,
}

// arming is one entry of a plan.
type arming struct {
	what    string
	errno   syscall.Errno // of an error; 0: none
	delay   time.Duration
	from    uint64  // the first pass it is for
	only    bool    // and the last
	percent float64 // of those passes
	passes  uint64
}

// plan is what is armed for each label. Its passes may come from any goroutine.
type plan struct {
	mu    sync.Mutex
	rand  *rand.Rand
	armed map[Label][]*arming
}

// pass counts a pass and returns what happens at it, if anything.
func (p *plan) pass(l Label) (*arming, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var hit *arming
	for _, a := range p.armed[l] {
		a.passes++
		due := a.passes == a.from || a.passes > a.from && !a.only
		if due && hit == nil && (a.percent == 100 || p.rand.Float64()*100 < a.percent) {
			hit = a
		}
	}
	if hit == nil {
		return nil, 0
	}
	return hit, hit.passes
}

// parse reads a plan: label:action[@pass[+]][%probability], separated by commas or lines.
func parse(text string, rng *rand.Rand) (*plan, error) {
	p := &plan{rand: rng, armed: map[Label][]*arming{}}
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		name, action, _ := strings.Cut(item, ":")
		spec, ok := find(name)
		if !ok {
			return nil, fmt.Errorf("%q: there is no label %q", item, name)
		}
		a, err := parseAction(action)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", item, err)
		}
		if a.errno != 0 && !spec.Fails {
			return nil, fmt.Errorf("%q: this point cannot return an error", item)
		}
		p.armed[spec.Label] = append(p.armed[spec.Label], a)
	}
	return p, nil
}

func find(name string) (Spec, bool) {
	for _, s := range labels {
		if s.Name == name {
			return s, true
		}
	}
	return Spec{}, false
}

func parseAction(text string) (*arming, error) {
	a := &arming{from: 1, percent: 100}
	var err error
	text, probability, some := strings.Cut(text, "%")
	if some {
		if a.percent, err = strconv.ParseFloat(probability, 64); err != nil || a.percent <= 0 || a.percent > 100 {
			return nil, fmt.Errorf("a probability of %q: want more than 0 and at most 100", probability)
		}
	}
	text, pass, some := strings.Cut(text, "@")
	if some {
		digits, onward := strings.CutSuffix(pass, "+")
		a.only = !onward
		if a.from, err = strconv.ParseUint(digits, 10, 64); err != nil || a.from == 0 {
			return nil, fmt.Errorf("pass %q: want a number from 1, or one and a +", pass)
		}
	}
	a.what = text
	action, value, _ := strings.Cut(text, "=")
	switch {
	case text == "crash" || text == "hang":
	case action == "error":
		if a.errno = errnos[value]; a.errno == 0 {
			return nil, fmt.Errorf("there is no error %q to arm", value)
		}
	case action == "delay":
		if a.delay, err = time.ParseDuration(value); err != nil || a.delay <= 0 {
			return nil, fmt.Errorf("a delay of %q: want 500ms, 2s, …", value)
		}
	default:
		return nil, fmt.Errorf("action %q: want crash, hang, error=NAME or delay=TIME", text)
	}
	return a, nil
}
