package bubble

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// lastWords is how long a process that hangs may take to print its goroutines.
	lastWords = 5 * time.Second
	// memoryLook is how often its memory is looked at.
	memoryLook = 500 * time.Millisecond
	// endPatience is how long a process without jobs may take to end.
	endPatience = 10 * time.Second
)

// child is one process.
type child struct {
	cmd     *exec.Cmd
	jobs    io.WriteCloser
	answers chan []byte // closed when the process says nothing more
	read    error       // why, where that is not its end; set before answers is closed
	output  *output
	gone    chan struct{} // closed when it has ended
	how     error         // set before gone is closed
}

func (r *run) start() (*child, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(r.Path, r.Args...), answers: make(chan []byte), output: &output{}, gone: make(chan struct{})}
	c.cmd.Env, c.cmd.Args[0] = append(surroundings(), r.Env...), called(r.Path)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.ExtraFiles = c.output, c.output, []*os.File{to} // file descriptor 3: results
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}              // one that hangs must not outlive this process
	if c.jobs, err = c.cmd.StdinPipe(); err == nil {
		err = c.begin(r.Yields)
	}
	_ = to.Close() // the child has its own
	if err != nil {
		_ = from.Close()
		return nil, fmt.Errorf("start %s: %w", r.Path, err)
	}
	go c.listen(from)
	go func() {
		defer close(c.gone)
		c.how = c.cmd.Wait()
	}()
	return c, nil
}

// leastNice is the lowest priority.
const leastNice = 19

// begin starts the process. One that yields has the priority of the thread that starts it, which is not used for anything else, and must live as
// long as the process does (Pdeathsig).
func (c *child) begin(yields bool) error {
	if !yields {
		return c.cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, leastNice)
		if err == nil {
			err = c.cmd.Start()
		}
		started <- err
		if err == nil {
			<-c.gone
		}
	}()
	return <-started
}

// listen passes the answers on.
func (c *child) listen(from *os.File) {
	defer close(c.answers)
	defer from.Close()
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, MaxLine)
	for lines.Scan() {
		select {
		case c.answers <- append([]byte(nil), lines.Bytes()...):
		case <-c.gone:
			return
		}
	}
	c.read = lines.Err()
}

// do has one job done. An error means that ctx has ended.
func (c *child) do(ctx context.Context, job []byte, limit time.Duration, memory int64) (Outcome, error) {
	began := time.Now()
	c.output.clear()
	sent := make(chan error, 1)
	go func() {
		_, err := c.jobs.Write(append(append([]byte(nil), job...), '\n'))
		sent <- err
	}()
	result, err := c.await(ctx, limit, memory)
	if ctx.Err() != nil {
		c.kill()
		<-sent
		return Outcome{}, context.Cause(ctx)
	}
	if err != nil {
		c.kill()
	}
	if e := <-sent; err == nil && e != nil {
		err = fmt.Errorf("%w: it took no job: %w", ErrCrashed, e)
	}
	o := Outcome{Job: job, Result: result, Err: err, Output: c.output.String(), Took: time.Since(began)}
	if errors.Is(err, ErrHung) {
		o.Output = awake(o.Output)
	}
	if err != nil {
		o.Result = nil
	}
	return o, nil
}

// await waits for the result.
func (c *child) await(ctx context.Context, limit time.Duration, memory int64) ([]byte, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	for {
		select {
		case line, ok := <-c.answers:
			if ok {
				return line, nil
			}
			if c.read != nil {
				return nil, fmt.Errorf("%w: %w", errLine, c.read)
			}
			<-c.gone
			return nil, fmt.Errorf("%w: %v", ErrCrashed, c.how)
		case <-look.C:
			if has := c.resident(); memory > 0 && has > memory {
				return nil, fmt.Errorf("%w: %d MiB, more than %d", ErrMemory, has>>20, memory>>20)
			}
		case <-late.C:
			_ = c.cmd.Process.Signal(syscall.SIGQUIT) // it may just have ended
			select {
			case <-c.gone:
			case <-time.After(lastWords):
			}
			return nil, fmt.Errorf("%w: no result within %s", ErrHung, limit)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// awake leaves out, of all goroutines, those that wait for others of the bubble or for its clock. The clock stands still as long as there is
// another one, and that one is the reason: it runs, is in a system call, or waits for a mutex.
func awake(output string) string {
	var rest []string
	for block := range strings.SplitSeq(output, "\n\n") {
		head, _, _ := strings.Cut(block, "\n")
		if !strings.HasPrefix(head, "goroutine ") || strings.Contains(head, "synctest bubble") && !strings.Contains(head, "(durable)") {
			rest = append(rest, block)
		}
	}
	return strings.Join(rest, "\n\n")
}

// resident is what the process has in memory, in bytes; 0 when that is not known.
func (c *child) resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may just have ended
	<-c.gone
}

// end lets the process go, which has no job.
func (c *child) end() error {
	_ = c.jobs.Close()
	select {
	case <-c.gone:
		return nil
	case <-time.After(endPatience):
		c.kill()
		return fmt.Errorf("%s did not end %s after its last job", c.cmd.Path, endPatience)
	}
}

// outputKept is how much of the beginning, and of the end, of what a process prints is kept: room for all goroutines of one that hangs.
const outputKept = 8 << 20

// output keeps what a process printed since clear.
type output struct {
	mu         sync.Mutex
	head, tail []byte // guarded by mu
	left       int    // guarded by mu; bytes between them that were dropped
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(p), outputKept-len(o.head))
	o.head = append(o.head, p[:n]...)
	o.tail = append(o.tail, p[n:]...)
	if over := len(o.tail) - outputKept; over > 0 {
		o.left += over
		o.tail = append([]byte(nil), o.tail[over:]...)
	}
	return len(p), nil
}

func (o *output) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.head, o.tail, o.left = nil, nil, 0
}

// String is all that is kept.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == 0 {
		return string(o.head) + string(o.tail)
	}
	return fmt.Sprintf("%s\n… %d bytes …\n%s", o.head, o.left, o.tail)
}
