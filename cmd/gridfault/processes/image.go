package processes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// image is the disk of one machine: an ext4 file system in a sparse file, on a loop device that goes with the mount. nil is a plain
// directory, which nothing can be done to.
type image struct {
	file, dir string
	mounted   bool
}

// imageBytes is enough for a run of minutes; a master's log allocates 64 MiB at a time.
const imageBytes = 384 << 20

func newImage(file, dir string) (*image, error) {
	i := &image{file: file, dir: dir}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(imageBytes), f.Close()); err != nil {
		return nil, err
	}
	if err := tool("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", file); err != nil {
		return nil, err
	}
	if err := i.mount(); err != nil {
		return nil, err
	}
	return i, os.Mkdir(filepath.Join(dir, "data"), 0o755)
}

// mount replays the journal, as after a crash.
func (i *image) mount() error {
	if i.mounted {
		return nil
	}
	err := tool("mount", "-t", "ext4", "-o", "loop,noatime,noinit_itable", i.file, i.dir)
	i.mounted = err == nil
	return err
}

func (i *image) unmount() error {
	if !i.mounted {
		return nil
	}
	if err := unix.Unmount(i.dir, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", i.dir, err)
	}
	i.mounted = false
	return nil
}

func (i *image) close() error {
	if i == nil || !i.mounted {
		return nil
	}
	return i.unmount()
}

// The ways of FS_IOC_SHUTDOWN.
const (
	shutdownLogFlush   = 1 // the journal reaches the disk, data that was not synced does not
	shutdownNoLogFlush = 2 // nothing more reaches the disk
)

// ioctl numbers that x/sys does not have: _IOR('X', 125, __u32), _IOWR('X', 119, int), _IOWR('X', 120, int).
const (
	ioctlShutdown = 0x8004587d
	ioctlFreeze   = 0xc0045877
	ioctlThaw     = 0xc0045878
)

// ioctl does something to the file system at dir.
func ioctl(dir string, number uintptr, value uint32) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(&value))); errno != 0 {
		return fmt.Errorf("ioctl %#x on %s: %w", number, dir, errno)
	}
	return nil
}

// powerOff makes the file system what it is when the power fails: whatever was not synced is gone, and nothing works any more.
func (i *image) powerOff(way uint32) error { return ioctl(i.dir, ioctlShutdown, way) }

// freeze makes every write wait until thaw.
func (i *image) freeze() error { return ioctl(i.dir, ioctlFreeze, 0) }

func thaw(dir string) error { return ioctl(dir, ioctlThaw, 0) }
