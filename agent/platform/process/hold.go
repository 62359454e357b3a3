package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// The file descriptors a held program is started with, beside the standard three.
const (
	readyFD = 3 // where its ready line goes; the program is told by ReadyEnv
	gateFD  = 4 // one byte from here lets it run
)

// ReadyEnv names the variable that tells a program which file descriptor its ready line goes to.
const ReadyEnv = "GRID_READY_FD"

// Hold waits until the process that started this one has written down who it is, and then becomes the program argv. If
// that process dies before, Hold returns an error and nothing was run: so no program ever runs that nobody knows.
func Hold(argv []string) error {
	if len(argv) == 0 {
		return errors.New("hold: no program is named")
	}
	gate := os.NewFile(gateFD, "gate")
	var pass [1]byte
	if n, err := gate.Read(pass[:]); n != 1 {
		return fmt.Errorf("hold %s: not released by the process that started it (%w)", argv[0], err)
	}
	if err := gate.Close(); err != nil {
		return fmt.Errorf("hold %s: %w", argv[0], err)
	}
	return fmt.Errorf("start %s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ()))
}
