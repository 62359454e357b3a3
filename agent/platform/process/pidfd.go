package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// pidfd is the kernel's handle on one process: unlike a pid it never comes to mean another one. It becomes readable when
// the process ends, so waiting costs no thread and can be given up.
type pidfd struct {
	file *os.File
	conn syscall.RawConn
}

// openPidfd opens a child that has not been reaped, whose pid is therefore surely its own.
func openPidfd(pid int) (*pidfd, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, platform.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &pidfd{file: file, conn: conn}, nil
}

// openIdentity opens the process an identity names. The handle is opened first and the identity checked behind it: if it
// matches, the pid was this process's all the while.
func openIdentity(id identity) (*pidfd, error) {
	p, err := openPidfd(id.pid)
	if err != nil {
		return nil, err
	}
	if now, err := identify(id.pid); err != nil || now != id {
		return nil, errors.Join(platform.ErrGone, p.close())
	}
	return p, nil
}

// wait returns nil when the process has ended, and an error once the handle is closed.
func (p *pidfd) wait() error {
	return p.conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0
	})
}

// signal is no error when the process has ended.
func (p *pidfd) signal(sig unix.Signal) error {
	var failed error
	err := p.conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	if errors.Is(failed, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return errors.Join(err, failed)
}

func (p *pidfd) close() error { return p.file.Close() }
