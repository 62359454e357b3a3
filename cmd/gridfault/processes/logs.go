package processes

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// logs is what all processes of a grid say, and which fault was last made to happen when they said it. Logs lie beside the machines'
// disks: nothing that happens to a disk takes them away.
type logs struct {
	mu    sync.Mutex
	files []*logFile
	whole map[string]string // what they held when the grid was closed; nil: look
}

// logFile is the log of one program, or of the nodes of one machine. It only grows.
type logFile struct {
	path  string
	m     *machine
	marks []logMark // in order
	told  int64     // up to where each has handed it out
}

// logMark says that from an offset on a kind of fault explains what is said; it does until the next one begins, as what it has broken
// may show long after it has ended.
type logMark struct {
	from int64
	kind rig.Kind
}

func newLogs() *logs { return &logs{} }

func (l *logs) add(path string, m *machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, &logFile{path: path, m: m})
}

// begin marks all logs: a fault begins.
func (l *logs) begin(k rig.Kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		f.marks = append(f.marks, logMark{size(f.path), k})
	}
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // nothing was said yet
	}
	return info.Size()
}

// places are ends of logs at one moment, by path.
type places map[string]int64

// place is where the logs of a machine end now.
func (l *logs) place(m *machine) places {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := places{}
	for _, f := range l.files {
		if f.m == m {
			p[f.path] = size(f.path)
		}
	}
	return p
}

// since is what was said behind places.
func (l *logs) since(p places) (string, error) {
	var said strings.Builder
	var faults []error
	for path, from := range p {
		text, err := readFrom(path, from)
		said.WriteString(text)
		faults = append(faults, err)
	}
	return said.String(), errors.Join(faults...)
}

// maxRead bounds what is read of a log at a time.
const maxRead = 64 << 20

func readFrom(path string, from int64) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, from, maxRead))
	return string(text), err
}

// keep reads all logs, as their directory will go.
func (l *logs) keep() {
	whole := map[string]string{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		text, err := readFrom(f.path, 0)
		if err != nil {
			text += "\npanic: the suite cannot read this log: " + err.Error() + "\n" // which makes it trouble
		}
		whole[f.path] = text
	}
	l.whole = whole
}

// each hands every line of every log to fn that it has not before, with the kind of fault that was last made to happen when it was said.
func (l *logs) each(fn func(f *logFile, line string, k rig.Kind)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		text, kept := l.whole[f.path]
		if !kept {
			var err error
			if text, err = readFrom(f.path, 0); err != nil {
				return err
			}
		}
		next, kind := 0, rig.Kind("")
		for line := range strings.Lines(text[min(f.told, int64(len(text))):]) {
			if !kept && !strings.HasSuffix(line, "\n") {
				break // its end comes
			}
			for next < len(f.marks) && f.marks[next].from <= f.told {
				kind = f.marks[next].kind
				next++
			}
			fn(f, strings.TrimSuffix(line, "\n"), kind)
			f.told += int64(len(line))
		}
	}
	return nil
}

// lastLine is what a program said last.
func lastLine(path string) string {
	text, err := readFrom(path, max(0, size(path)-4096))
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace([]byte(text)), []byte("\n"))
	return string(lines[len(lines)-1])
}
