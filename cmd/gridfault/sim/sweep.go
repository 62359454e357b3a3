package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dirPrefix begins the name of a grid's directory; the process's id and a number follow.
const dirPrefix = "gridfault-sim-"

// Sweep removes the directories of grids whose process has ended without closing them, killed as a rule: they lie in memory. Those of
// processes that live are left alone. dir is where to look; empty: where grids are put by default.
func Sweep(dir string) error {
	cfg := Config{Dir: dir}
	all, err := filepath.Glob(filepath.Join(cfg.place(), dirPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range all {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(d), dirPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if err := os.RemoveAll(d); err != nil {
			errs = append(errs, fmt.Errorf("remove what process %d has left: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}
