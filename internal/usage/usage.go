// Package usage asks the kernel what a process uses.
//
//	/proc/PID/fd, /proc/PID/statm -> Process        DIR -> bytes on its disk
//
// It knows no grid and imports nothing of ours.
package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Process is what one process uses.
type Process struct {
	Files    int   // open files, sockets among them; without Store
	Store    int   // open files that a store keeps by bounds of its own: tables (.sst, .blob) and segments of a log (.wal)
	RSSBytes int64 // memory that is there
}

var storeFiles = []string{".sst", ".blob", ".wal"}

// Of looks at a process. One that has ended is fs.ErrNotExist or syscall.ESRCH.
func Of(pid int) (Process, error) {
	var p Process
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, err := os.ReadDir(proc + "/fd")
	if err != nil {
		return p, err
	}
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if err == nil && slices.Contains(storeFiles, filepath.Ext(name)) { // one that is deleted has another ending, and nobody may keep it
			p.Store++
		}
	}
	p.Files = len(fds) - p.Store
	statm, err := os.ReadFile(proc + "/statm")
	if err != nil {
		return p, err
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return p, fmt.Errorf("%s/statm: %q", proc, statm)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	p.RSSBytes = pages * int64(os.Getpagesize())
	return p, err
}

// Disk is how much a directory's files take; those that go meanwhile take nothing.
func Disk(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				total += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}
