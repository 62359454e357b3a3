package given

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// Bounds of a call of the program.
const (
	hookLimit = 30 * time.Second
	hookDrain = time.Second / 2 // for what it has started and left behind to let go of its output
	maxOutput = 4 << 10         // bytes that are kept
	maxProof  = 200             // bytes of the first line
)

// lasting is a fault that the program has begun.
type lasting struct {
	g     *Grid
	fault rig.Fault
}

// Inject implements rig.Grid: it has the program begin the fault, and end it again if that failed.
func (g *Grid) Inject(ctx context.Context, f rig.Fault) (rig.Injected, error) {
	if f.Kind != rig.KindHook && f.Kind != rig.KindOutage || g.cfg.Hook == "" {
		return nil, fmt.Errorf("%s: %w: a grid of yours is hurt by a program of yours alone", f.Name(), rig.ErrUnsupported)
	}
	l := &lasting{g, f}
	g.mu.Lock()
	if g.lasting != nil || g.closed {
		g.mu.Unlock()
		return nil, fmt.Errorf("%s: another fault lasts, or the grid is closed", f.Name())
	}
	g.lasting = l
	g.mu.Unlock()
	if _, err := g.call(ctx, "begin", f.Label); err != nil {
		_, ended := l.Heal(context.WithoutCancel(ctx))
		return nil, errors.Join(err, ended)
	}
	return l, nil
}

// Heal implements rig.Injected.
func (l *lasting) Heal(ctx context.Context) (rig.Proof, error) {
	l.g.mu.Lock()
	ours := l.g.lasting == l
	if ours {
		l.g.lasting = nil
	}
	l.g.mu.Unlock()
	if !ours {
		return rig.Proof{}, fmt.Errorf("%s: it was ended before", l.fault.Name())
	}
	return l.end(ctx)
}

// end has the program end the fault; the first line that it prints is what shows that there was one.
func (l *lasting) end(ctx context.Context) (rig.Proof, error) {
	said, err := l.g.call(ctx, "end", l.fault.Label)
	proof := rig.Proof{What: said, Met: l.fault.Label}
	if said != "" {
		proof.Count = 1
	}
	return proof, err
}

// call runs the program and returns the first line that it prints. It has a process group of its own: Ctrl-C is for us, who then have it
// end what it began.
func (g *Grid) call(ctx context.Context, verb, name string) (first string, err error) {
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.cfg.Hook, verb, name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = hookDrain
	var said, complained head
	cmd.Stdout, cmd.Stderr = &said, &complained
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it has ended well; what it left running still has its output
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it was killed, %w", context.Cause(ctx))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s %s: %w: %s", g.cfg.Hook, verb, name, err, strings.TrimSpace(string(complained)))
	}
	first, _, _ = strings.Cut(strings.TrimSpace(string(said)), "\n")
	return strings.ToValidUTF8(first[:min(len(first), maxProof)], "…"), nil
}

// head keeps the beginning of what is written to it.
type head []byte

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	*h = append(*h, b[:min(len(b), maxOutput-len(*h))]...)
	return len(b), nil
}
