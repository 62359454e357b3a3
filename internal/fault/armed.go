//go:build faults

package fault

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Enabled tells whether this build can be made to fail.
const Enabled = true

// hungCheck is how often a hung point looks whether the plan has changed.
const hungCheck = 10 * time.Millisecond

// process is what is armed in this process. It changes while the program runs, unlike any other package variable: the point
// of a fault is that nothing in between knows of it.
var process control

// control is a plan and where it came from.
type control struct {
	mu     sync.Mutex
	loaded bool
	file   fs.FileInfo // nil: there was none
	plan   *plan
}

// Point is where a process can crash, hang or be late.
func Point(l Label) {
	if err := Err(l); err != nil {
		refuse(err) // a plan is checked when it is read
	}
}

// Err is a Point that can also fail as the operation behind it does.
func Err(l Label) error {
	p := current()
	a, pass := p.pass(l)
	if a == nil {
		return nil
	}
	fmt.Fprintf(os.Stderr, "fault: %s, pass %d: %s\n", Name(l), pass, a.what)
	switch a.what {
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		for current() == p {
			time.Sleep(hungCheck)
		}
		return nil
	}
	time.Sleep(a.delay)
	if a.errno == 0 {
		return nil
	}
	return fmt.Errorf("armed at %s: %w", Name(l), a.errno)
}

// current is the plan as it is now.
func current() *plan {
	process.mu.Lock()
	defer process.mu.Unlock()
	path := os.Getenv("GRID_FAULT_FILE")
	if path == "" {
		if !process.loaded {
			process.load(os.Getenv("GRID_FAULT"))
		}
		return process.plan
	}
	info, err := os.Stat(path)
	if err != nil {
		info = nil // no file, no faults
	}
	if process.loaded && same(info, process.file) {
		return process.plan
	}
	text := ""
	if info != nil {
		b, err := os.ReadFile(path)
		if err != nil {
			refuse(err)
		}
		text = string(b)
	}
	process.file = info
	process.load(text)
	return process.plan
}

func (c *control) load(text string) {
	seed := uint64(1)
	if s := os.Getenv("GRID_FAULT_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			refuse(fmt.Errorf("GRID_FAULT_SEED: %w", err))
		}
		seed = n
	}
	p, err := parse(text, rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		refuse(err)
	}
	c.plan, c.loaded = p, true
}

// same tells whether a file is what it was; a plan is replaced by a rename, so a new one is another file.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// refuse ends the process: a suite that believes in faults that do not happen shows nothing.
func refuse(err error) {
	fmt.Fprintf(os.Stderr, "fault: %v\n", err)
	os.Exit(2)
}
