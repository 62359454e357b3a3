package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sutra-grid/sutra-grid/agent/platform"
)

// openLog opens the file an instance prints to; with keep above 0 the present one is moved out of the way first. It is
// opened for appending: two writers (a held program and what it becomes) never overwrite each other.
func openLog(path string, keep int) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if keep > 0 {
		if err := rotate(path, keep); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
}

// rotate renames path to path.1, path.1 to path.2 and so on; what was path.<keep> is gone.
func rotate(path string, keep int) error {
	numbered := func(n int) string {
		if n == 0 {
			return path
		}
		return fmt.Sprintf("%s.%d", path, n)
	}
	for n := keep - 1; n >= 0; n-- {
		if err := os.Rename(numbered(n), numbered(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	return nil
}

// tail gives the last whole lines of a file, at most limit bytes of valid UTF-8; a last line that is longer is cut at its
// front. A file that cannot be read has none: the tail is a courtesy to whoever reads about a crash.
func tail(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(0, size-limit)
	text := make([]byte, size-from)
	n, _ := f.ReadAt(text, from)
	text = text[:n]
	if line := bytes.IndexByte(text, '\n'); from > 0 && line >= 0 && line+1 < len(text) {
		text = text[line+1:]
	}
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	// Replacement is no longer than what it replaces, so the bound holds.
	return strings.ToValidUTF8(string(text), "?")
}

// oomKills counts the processes the kernel has ended for want of memory, in any memory group, since it booted; 0 where it
// does not say.
func oomKills() uint64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseUint(count, 10, 64)
			return n
		}
	}
	return 0
}

// outOfMemory guesses whether that is why an instance ended. The kernel does not tell a parent; its count of such kills
// since the instance began, or the Go runtime's last words, are the best signs there are.
func outOfMemory(e platform.Exit, killsBefore uint64) bool {
	return e.Signal == "SIGKILL" && oomKills() > killsBefore || strings.Contains(e.Tail, "fatal error: runtime: out of memory") ||
		strings.Contains(e.Tail, "fatal error: runtime: cannot allocate memory")
}
