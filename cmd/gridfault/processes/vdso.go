package processes

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// vdso is the code by which one process reads its clocks, in that process: a private copy of the kernel's, which can be rewritten. A Go
// program has no other way to the time, and it is what each of our programs is.
type vdso struct {
	mem    *os.File
	place  int64 // of the function that reads a clock
	before []byte
}

// clockCode reads a clock by a system call, and adds an offset when it is the wall clock. The offset, seconds and then nanoseconds from
// 0 to 1e9, stands behind it, at clockOffset. The branches lead to the ends of the lines that are named.
var clockCode = []byte{
	0xb8, 0xe4, 0, 0, 0, // 00 mov eax, 228 (clock_gettime)
	0x0f, 0x05, // 05 syscall
	0x85, 0xff, // 07 test edi, edi (CLOCK_REALTIME is 0)
	0x75, 0x2c, // 09 jne done
	0x48, 0x8b, 0x0d, 0x2e, 0, 0, 0, // 0b mov rcx, [rip+…] (seconds)
	0x48, 0x01, 0x0e, // 12 add [rsi], rcx
	0x48, 0x8b, 0x4e, 0x08, // 15 mov rcx, [rsi+8]
	0x48, 0x03, 0x0d, 0x28, 0, 0, 0, // 19 add rcx, [rip+…] (nanoseconds)
	0x48, 0x81, 0xf9, 0x00, 0xca, 0x9a, 0x3b, // 20 cmp rcx, 1e9
	0x7c, 0x0a, // 27 jl store
	0x48, 0x81, 0xe9, 0x00, 0xca, 0x9a, 0x3b, // 29 sub rcx, 1e9
	0x48, 0xff, 0x06, // 30 inc qword [rsi]
	0x48, 0x89, 0x4e, 0x08, // 33 store: mov [rsi+8], rcx
	0xc3, // 37 done: ret
}

// Where the offset is, and how much room code and offset take.
const (
	clockOffset = 0x40
	clockRoom   = 0x50
)

// quietTries is how often a process is stopped to find none of its threads reading a clock.
const quietTries = 100

// bendClock gives a process a wall clock of its own, as yet without an offset.
func bendClock(t *target) (*vdso, error) {
	lo, hi, err := vdsoRange(t.pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", t.pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	img := make([]byte, hi-lo)
	if _, err := mem.ReadAt(img, int64(lo)); err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	at, size, err := clockFunction(img)
	if err == nil && size < clockRoom {
		err = fmt.Errorf("the kernel's function has %d bytes, ours takes %d", size, clockRoom)
	}
	if err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	v := &vdso{mem: mem, place: int64(lo + at), before: img[at : at+clockRoom]}
	code := make([]byte, clockRoom)
	copy(code, clockCode)
	if err := t.quiet(lo, hi, func() error { _, err := mem.WriteAt(code, v.place); return err }); err != nil {
		return nil, errors.Join(err, mem.Close())
	}
	return v, nil
}

// set moves the clock to an offset from the machine's.
func (v *vdso) set(offset time.Duration) error {
	sec, nano := int64(offset/time.Second), int64(offset%time.Second)
	if nano < 0 {
		sec, nano = sec-1, nano+int64(time.Second)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(sec))
	_, err := v.mem.WriteAt(binary.LittleEndian.AppendUint64(b, uint64(nano)), v.place+clockOffset)
	return err
}

// restore gives the process the kernel's function back.
func (v *vdso) restore(t *target, lo, hi uint64) error {
	return errors.Join(t.quiet(lo, hi, func() error { _, err := v.mem.WriteAt(v.before, v.place); return err }), v.mem.Close())
}

// vdsoRange is where the kernel has put its code in a process.
func vdsoRange(pid int) (lo, hi uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			_, err = fmt.Sscanf(line, "%x-%x", &lo, &hi)
			return lo, hi, err
		}
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO", pid)
}

// clockFunction finds __vdso_clock_gettime.
func clockFunction(img []byte) (at, size uint64, err error) {
	f, err := elf.NewFile(bytes.NewReader(img))
	if err != nil {
		return 0, 0, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, err
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Value+s.Size <= uint64(len(img)) {
			return s.Value, s.Size, nil
		}
	}
	return 0, 0, errors.New("the vDSO has no __vdso_clock_gettime")
}

// quiet stops a process while none of its threads runs code between lo and hi, does fn, and lets it go on.
func (t *target) quiet(lo, hi uint64, fn func() error) (err error) {
	for range quietTries {
		if err := t.signal(unix.SIGSTOP); err != nil {
			return err
		}
		busy := t.within(lo, hi)
		if !busy {
			err = fn()
		}
		if err := errors.Join(err, t.signal(unix.SIGCONT)); err != nil || !busy {
			return err
		}
		time.Sleep(time.Millisecond) // a thread that reads a clock is done in less
	}
	return fmt.Errorf("a thread of %s reads a clock whenever one looks", t.victim)
}

// within tells whether a thread of a process that was told to stop has not stopped yet, or was stopped between lo and hi.
func (t *target) within(lo, hi uint64) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
	if err != nil {
		return true
	}
	for _, task := range tasks {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", t.pid, task.Name()))
		fields := strings.Fields(string(state))
		if err != nil || len(fields) < 2 { // "running"
			return true
		}
		pc, err := strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil || pc >= lo && pc < hi {
			return true
		}
	}
	return false
}
