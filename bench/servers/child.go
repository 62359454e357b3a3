package servers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one process.
type child struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	in   io.Closer     // its standard input, held open while it shall run
	said chan struct{} // closed when it has printed the line that is waited for
	done chan struct{} // closed when it has ended
	err  error         // how; valid behind done
}

// program says what to start.
type program struct {
	name, path string
	args, env  []string
	log        string // file for all it prints
	ready      string // it is ready when a line of its standard output begins with this
	stop       syscall.Signal
	user       *syscall.Credential // nil: ours
}

// launch starts a process. It has a process group of its own, so a Ctrl-C at the terminal meets only us.
func launch(p program) (*child, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	c := &child{name: p.name, log: log, said: make(chan struct{}), done: make(chan struct{})}
	c.cmd = exec.Command(p.path, p.args...)
	c.cmd.Env = append(os.Environ(), p.env...)
	c.cmd.Stderr = log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: p.stop, Credential: p.user}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go c.follow(out, p.ready)
	return c, nil
}

// follow copies what the process prints into its log, and waits for its end.
func (c *child) follow(out io.Reader, ready string) {
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(c.log, lines.Text()) // a log that cannot be written ends nothing
		if ready != "" && strings.HasPrefix(lines.Text(), ready) {
			once.Do(func() { close(c.said) })
		}
	}
	c.err = c.cmd.Wait()
	c.log.Close()
	close(c.done)
}

// await waits until the process has said that it is ready.
func (c *child) await(ctx context.Context, patience time.Duration) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-c.said:
		return nil
	case <-c.done:
		return fmt.Errorf("%s ended before it was ready (%v): %s", c.name, c.err, c.tail())
	case <-limit.C:
		return fmt.Errorf("%s was not ready within %s: %s", c.name, patience, c.tail())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tail is the last that the process printed.
func (c *child) tail() string {
	text, err := os.ReadFile(c.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-500):]))
}

// end asks the process to end, and kills it if it takes longer.
func (c *child) end(how syscall.Signal, patience time.Duration) error {
	_ = c.in.Close()              // it is a pipe
	_ = c.cmd.Process.Signal(how) // it may have ended
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-c.done:
		return nil
	case <-limit.C:
		_ = c.cmd.Process.Kill() // likewise
		<-c.done
		return fmt.Errorf("%s did not end within %s and was killed", c.name, patience)
	}
}

// The ports that grids get: below those that the kernel gives away.
const (
	lowestPort, highestPort = 11000, 32000
	gridPorts               = 400 // as gridctl dev needs
)

// freeBase finds ports for a grid.
func freeBase() (int, error) {
	for base := lowestPort; base+gridPorts <= highestPort; base += gridPorts {
		if blockFree(base) {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row between %d and %d", gridPorts, lowestPort, highestPort)
}

func blockFree(base int) bool {
	for port := base; port < base+gridPorts; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// freeAddresses are addresses nobody listens on now.
func freeAddresses(n int) ([]string, error) {
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // held until all are found, so that none comes twice
		all = append(all, l.Addr().String())
	}
	return all, nil
}

// subdir makes a directory.
func subdir(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.MkdirAll(path, 0o755)
}
