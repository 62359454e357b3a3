package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// Trace is a fingerprint of a run: of everything that was delivered and of the faults, with the moments, in their order, and of what is
// written to it. Equal traces are equal runs. Its methods may be called concurrently.
type Trace struct {
	mu    sync.Mutex
	sum   hash.Hash         // guarded by mu
	count int64             // guarded by mu; of deliveries
	line  []byte            // guarded by mu
	tell  func(line []byte) // guarded by mu
}

// NewTrace begins one. tell, if there is one, gets each line, to find where two runs part: it must be quick, must not use the grid, and
// must not keep the line.
func NewTrace(tell func(line []byte)) *Trace { return &Trace{sum: sha256.New(), tell: tell} }

// delivered adds one delivery; of a nil trace nothing is kept.
func (t *Trace) delivered(p transport.Passage) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	t.line = strconv.AppendInt(t.line[:0], time.Now().UnixNano(), 10)
	t.line = append(append(append(append(t.line, ' '), p.From...), '>'), p.To...)
	t.line = append(strconv.AppendInt(append(t.line, ' '), int64(p.Bytes), 10), '\n')
	t.addLocked(t.line)
}

// happened adds what became of a fault; of a nil trace nothing is kept.
func (t *Trace) happened(format string, args ...any) {
	if t != nil {
		_, _ = fmt.Fprintf(t, "%d %s\n", time.Now().UnixNano(), fmt.Sprintf(format, args...)) // Write never fails
	}
}

// Write implements io.Writer. It never fails.
func (t *Trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(p)
	return len(p), nil
}

func (t *Trace) addLocked(line []byte) {
	_, _ = t.sum.Write(line) // never fails (hash.Hash)
	if t.tell != nil {
		t.tell(line)
	}
}

// String is the fingerprint so far, and of how many deliveries it is.
func (t *Trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%s of %d deliveries", hex.EncodeToString(t.sum.Sum(nil)[:16]), t.count)
}
