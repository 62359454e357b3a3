package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// The test binary is its own hold program, and the program that is run.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "hold":
		fmt.Fprintln(os.Stderr, Hold(os.Args[2:]))
		os.Exit(127)
	case len(os.Args) > 2 && os.Args[1] == "child":
		child(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

// child is a program with a life of its own: it says ready, then does what it is told.
func child(what string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	if _, gated := os.LookupEnv("GRID_SECRET"); gated {
		what = "leak"
	}
	fmt.Fprintln(os.Stderr, "first line\nlast line of "+what)
	if info, err := os.NewFile(gateFD, "gate").Stat(); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		fmt.Fprintln(os.Stderr, "the gate is still open")
		os.Exit(9)
	}
	switch what {
	case "exit":
		os.Exit(7)
	case "leak":
		os.Exit(8)
	}
	fmt.Fprintf(os.NewFile(readyFD, "ready"), "ready 127.0.0.1:1 %032d\n", 5)
	<-terminated
	os.Exit(0)
}

func spec(t *testing.T, what string) platform.Spec {
	t.Helper()
	dir := t.TempDir()
	return platform.Spec{Path: os.Args[0], Args: []string{"child", what}, ReadyFile: filepath.Join(dir, "ready"),
		LogFile: filepath.Join(dir, "log", "node.log"), KeepLogs: 3}
}

func adapter() *Processes { return New(os.Args[0], "hold") }

func start(t *testing.T, s platform.Spec) *platform.Instance {
	t.Helper()
	in, err := adapter().Start(s, func(platform.Ref, int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Kill(); in.Close() })
	return in
}

func ready(t *testing.T, in *platform.Instance) {
	t.Helper()
	n := <-in.Notices
	if n.Ready == nil || n.Ready.Endpoint != "127.0.0.1:1" || n.Ready.StoreID != fmt.Sprintf("%032d", 5) {
		t.Fatalf("first notice %+v, want ready", n)
	}
}

func exit(t *testing.T, in *platform.Instance) platform.Exit {
	t.Helper()
	n := <-in.Notices
	if n.Exit == nil {
		t.Fatalf("notice %+v, want an exit", n)
	}
	if _, more := <-in.Notices; more {
		t.Error("a notice behind the exit")
	}
	return *n.Exit
}

func TestExitOfAChild(t *testing.T) {
	for _, c := range []struct {
		name, what string
		end        func(*platform.Instance) error
		code       int32
		signal     string
	}{
		{"by itself", "exit", nil, 7, ""},
		{"terminated", "run", func(in *platform.Instance) error { return in.Terminate() }, 0, ""},
		{"killed", "run", func(in *platform.Instance) error { return in.Kill() }, -1, "SIGKILL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := start(t, spec(t, c.what))
			if c.end != nil {
				ready(t, in)
				if err := c.end(in); err != nil {
					t.Fatal(err)
				}
			}
			e := exit(t, in)
			code := int32(-1)
			if e.Code != nil {
				code = *e.Code
			}
			if code != c.code || e.Signal != c.signal || e.OOM {
				t.Errorf("exit code %d signal %q oom %v, want %d %q false", code, e.Signal, e.OOM, c.code, c.signal)
			}
			if !strings.HasSuffix(e.Tail, "last line of "+c.what+"\n") {
				t.Errorf("tail %q", e.Tail)
			}
			if err := errors.Join(in.Terminate(), in.Kill()); err != nil {
				t.Errorf("signals to an ended process: %v", err)
			}
		})
	}
}

func TestNothingRunsBeforeItIsRecorded(t *testing.T) {
	refused := errors.New("disk full")
	s := spec(t, "run")
	var pid int
	_, err := adapter().Start(s, func(ref platform.Ref, p int) error {
		pid = p
		w, err := Watch(s.ReadyFile)
		if err != nil {
			t.Fatal(err)
		}
		// That nothing happens takes a time limit to see: the program would be ready in a few milliseconds.
		limit := time.AfterFunc(500*time.Millisecond, func() { w.Close() })
		defer limit.Stop()
		if w.Next() == nil {
			t.Error("the program ran before it was recorded")
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatalf("Start: %v, want the recorder's error", err)
	}
	if _, err := identify(pid); !errors.Is(err, platform.ErrGone) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if text, _ := os.ReadFile(s.LogFile); strings.Contains(string(text), "first line") {
		t.Errorf("the program ran: %q", text)
	}
}

// The starter dies between the spawn and its record: the gate closes, and what it started ends.
func TestAnUnrecordedProcessEnds(t *testing.T) {
	s := spec(t, "run")
	gate, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	proc, err := adapter().spawn(s.Path, s, gate)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gate.Close(), release.Close()); err != nil {
		t.Fatal(err)
	}
	state, err := proc.Wait()
	if err != nil || state.ExitCode() != 127 {
		t.Fatalf("ended with %v, %v; want status 127", state, err)
	}
	if text := tail(s.LogFile, platform.TailBytes); !strings.Contains(text, "not released") {
		t.Errorf("log %q", text)
	}
}

func TestAdopt(t *testing.T) {
	s := spec(t, "run")
	first := start(t, s)
	ready(t, first)
	first.Close()
	if _, more := <-first.Notices; more {
		t.Fatal("a notice after Close")
	}

	in, err := adapter().Adopt(first.Ref, s)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ready(t, in) // the file still says it
	if in.Ref != first.Ref || in.PID != first.PID {
		t.Errorf("adopted %s %d, want %s %d", in.Ref, in.PID, first.Ref, first.PID)
	}
	line, err := CommandLine(in.Ref)
	if err != nil || strings.Join(line, " ") != os.Args[0]+" child run" {
		t.Errorf("command line %q, %v", line, err)
	}
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	if e := exit(t, in); e.Signal != "SIGKILL" || e.Tail == "" {
		t.Errorf("exit of an adopted child %+v", e)
	}
	if _, err := adapter().Adopt(in.Ref, s); !errors.Is(err, platform.ErrGone) {
		t.Errorf("adopt a dead process: %v", err)
	}
	if _, err := CommandLine(in.Ref); !errors.Is(err, platform.ErrGone) {
		t.Errorf("command line of a dead process: %v", err)
	}
}

// What an agent that was started again has: processes that are nobody's children here.
func TestAdoptOfAnOrphan(t *testing.T) {
	s := spec(t, "run")
	if err := os.WriteFile(s.ReadyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", "-c", `"$0" child run 3>"$1" >/dev/null 2>&1 & echo $!`, os.Args[0], s.ReadyFile).Output()
	var pid int
	if err == nil {
		_, err = fmt.Sscan(string(out), &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	in, err := adapter().Adopt(id.ref(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ready(t, in)
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	if e := exit(t, in); e.Code != nil || e.Signal != "" {
		t.Errorf("exit of an orphan %+v: how it ended is unknown", e)
	}
}

func TestAdoptTellsProcessesWithOnePidApart(t *testing.T) {
	me, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	later, otherBoot := me, me
	later.start++
	otherBoot.boot = "another"
	for _, id := range []identity{later, otherBoot} {
		if _, err := adapter().Adopt(id.ref(), platform.Spec{}); !errors.Is(err, platform.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", id.ref(), err)
		}
	}
	for _, ref := range []platform.Ref{"", "1", "0/1/b", "-1/1/b", "1/x/b", "1/1/", "1/1/b/c"} {
		if _, err := adapter().Adopt(ref, platform.Spec{}); err == nil || errors.Is(err, platform.ErrGone) {
			t.Errorf("%q: %v, want a complaint about its form", ref, err)
		}
	}
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	s := spec(t, "run")
	s.Path = filepath.Join(t.TempDir(), "gridnode")
	_, err := adapter().Start(s, func(platform.Ref, int) error { t.Error("recorded"); return nil })
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), s.Path) {
		t.Errorf("Start: %v", err)
	}
}

func TestOwnSettingsAreNotPassedOn(t *testing.T) {
	t.Setenv("GRID_SECRET", "x")
	in := start(t, spec(t, "run"))
	ready(t, in)
}

func TestStartTime(t *testing.T) {
	fields := "S " + strings.Repeat("0 ", 18) + "4711 0"
	for _, c := range []struct {
		name, stat string
		want       uint64
		gone, bad  bool
	}{
		{"plain", "12 (gridnode) " + fields, 4711, false, false},
		{"a name with parentheses and blanks", "12 (a) R 1 (b) " + fields, 4711, false, false},
		{"zombie", "12 (gridnode) Z" + fields[1:], 0, true, false},
		{"cut", "12 (gridnode) S 1", 0, false, true},
		{"empty", "", 0, false, true},
	} {
		got, err := startTime([]byte(c.stat))
		if got != c.want || errors.Is(err, platform.ErrGone) != c.gone || (err != nil) != (c.gone || c.bad) {
			t.Errorf("%s: %d, %v", c.name, got, err)
		}
	}
}

func TestLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	for i := range 6 {
		f, err := openLog(path, 3)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "run %d\n", i)
		f.Close()
	}
	for name, want := range map[string]string{"": "run 5\n", ".1": "run 4\n", ".3": "run 2\n", ".4": ""} {
		if got := tail(path+name, 100); got != want {
			t.Errorf("%s%s holds %q, want %q", path, name, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"all of a short one", "a\nb\n", "a\nb\n"},
		{"whole lines only", "0123456789\nabc\ndef\n", "abc\ndef\n"},
		{"one long line", "0123456789abcdef", "6789abcdef"},
		{"cut inside a rune", "\u00e9\u00e9\u00e9\u00e9\u00e9x", "\u00e9\u00e9\u00e9\u00e9x"},
		{"not UTF-8", "a\xffb", "a?b"},
		{"empty", "", ""},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := tail(path, 10); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	now := oomKills()
	for _, c := range []struct {
		name  string
		exit  platform.Exit
		kills uint64
		want  bool
	}{
		{"killed, nothing was short", platform.Exit{Signal: "SIGKILL"}, now, false},
		{"exited by itself while others were ended", platform.Exit{Signal: "SIGSEGV"}, now - 1, false},
		{"killed while the kernel ended processes", platform.Exit{Signal: "SIGKILL"}, now - 1, now > 0},
		{"the runtime said so", platform.Exit{Tail: "x\nfatal error: runtime: out of memory\n"}, now, true},
	} {
		if got := outOfMemory(c.exit, c.kills); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestWatcherSeesARename(t *testing.T) {
	dir := t.TempDir()
	w, err := Watch(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "a.tmp"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := w.Next(); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- w.Next() }()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err == nil {
		t.Error("Next after Close: no error")
	}
}
