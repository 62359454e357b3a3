package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// identity is a process that cannot be mistaken for a later one with the same pid: its start time tells them apart, and
// the boot tells apart machines' lives that count time from their start.
type identity struct {
	pid   int
	start uint64 // clock ticks since boot
	boot  string
}

func (i identity) ref() platform.Ref {
	return platform.Ref(fmt.Sprintf("%d/%d/%s", i.pid, i.start, i.boot))
}

func parseRef(r platform.Ref) (identity, error) {
	parts := strings.Split(string(r), "/")
	if len(parts) != 3 || parts[2] == "" {
		return identity{}, fmt.Errorf("process reference %q: want pid/start/boot", r)
	}
	pid, err1 := strconv.Atoi(parts[0])
	start, err2 := strconv.ParseUint(parts[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil || pid <= 0 {
		return identity{}, fmt.Errorf("process reference %q: want pid/start/boot", r)
	}
	return identity{pid: pid, start: start, boot: parts[2]}, nil
}

// identify reads who runs as pid now. A process that has ended but is not reaped is gone.
func identify(pid int) (identity, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, platform.ErrGone
	}
	start, err := startTime(stat)
	if err != nil {
		return identity{}, err
	}
	return identity{pid: pid, start: start, boot: strings.TrimSpace(string(boot))}, nil
}

// startTime takes state and start time out of /proc/<pid>/stat. The second field is the program's name in parentheses and
// may hold anything, parentheses and blanks too, so fields are counted behind the last one.
func startTime(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	const first, state, start = 3, 3, 22 // numbered as in proc(5); the first behind the name is number 3
	if end < 0 || len(fields) <= start-first {
		return 0, fmt.Errorf("stat of a process: %d fields behind the name", len(fields))
	}
	if s := fields[state-first]; s == "Z" || s == "X" || s == "x" {
		return 0, platform.ErrGone
	}
	return strconv.ParseUint(fields[start-first], 10, 64)
}

// CommandLine gives the arguments of the process a Ref names, program first; ErrGone when it does not run.
func CommandLine(ref platform.Ref) ([]string, error) {
	id, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id.pid))
	if err != nil {
		return nil, platform.ErrGone
	}
	// Read before the identity: it is this process's, as a later one with the pid would show another start time.
	if now, err := identify(id.pid); err != nil || now != id {
		return nil, platform.ErrGone
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}
