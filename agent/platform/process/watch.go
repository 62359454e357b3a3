package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher tells when files change. It says only that something did: the caller looks at what is there.
type Watcher struct{ file *os.File }

// Watch watches files (their contents) and directories (names that appear, also by a rename into them).
func Watch(paths ...string) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	w := &Watcher{file: os.NewFile(uintptr(fd), "inotify")}
	for _, path := range paths {
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_MOVED_TO); err != nil {
			return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), w.Close())
		}
	}
	return w, nil
}

// Next returns nil when something changed since Watch or the last Next, and an error once the Watcher is closed.
func (w *Watcher) Next() error {
	var events [4096]byte // each event is at most 16 bytes and a name
	_, err := w.file.Read(events[:])
	return err
}

// Close ends a Next that waits. A nil Watcher has nothing to close.
func (w *Watcher) Close() error {
	if w == nil {
		return nil
	}
	return w.file.Close()
}
