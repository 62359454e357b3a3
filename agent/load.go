package agent

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// loadMeter reads how busy the machine is. What cannot be read stays 0: load is telemetry.
type loadMeter struct {
	dir         string  // its file system is the one measured
	busy, total uint64  // where the last span began, in clock ticks of all cores
	cpu         float64 // over the last span
}

// loadOf measures the machine, by the file system of dir. A platform whose nodes run elsewhere may know better.
func (c *Config) loadOf(dir string) func() event.Load {
	if p, knows := c.Platform.(interface{ Load() event.Load }); knows {
		return p.Load
	}
	return (&loadMeter{dir: dir}).read
}

// minSpan is the least time over which the CPU's load is measured: 100 ticks are a second of one core. Heartbeats that a change brings
// come milliseconds apart, and a share of three ticks says nothing.
const minSpan = 100

const mib = 1 << 20

// read gives the load since the last read, or since the machine started.
func (m *loadMeter) read() event.Load {
	var l event.Load
	if text, err := os.ReadFile("/proc/stat"); err == nil {
		busy, total := cpuTicks(string(text))
		m.span(busy, total)
	}
	l.CPU = m.cpu
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		l.MemoryMB = memoryUsedMB(string(text))
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(m.dir, &fs) == nil {
		l.DiskMB = (fs.Blocks - fs.Bfree) * uint64(fs.Bsize) / mib
	}
	return l
}

// span takes a reading of the CPU's counters; it counts once it is far enough behind the last one that did.
func (m *loadMeter) span(busy, total uint64) {
	if total >= m.total+minSpan && busy >= m.busy {
		m.cpu = min(1, float64(busy-m.busy)/float64(total-m.total))
		m.busy, m.total = busy, total
	}
}

// cpuTicks reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal. Idle and waiting for a
// disk is not busy.
func cpuTicks(stat string) (busy, total uint64) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0, 0
	}
	for i, f := range fields[1:9] {
		var n uint64
		if _, err := fmt.Sscan(f, &n); err != nil {
			return 0, 0
		}
		total += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, total
}

// memoryUsedMB is what /proc/meminfo says is there less what it says is available.
func memoryUsedMB(meminfo string) uint64 {
	var total, available uint64 // KiB
	for line := range strings.SplitSeq(meminfo, "\n") {
		_, _ = fmt.Sscanf(line, "MemTotal: %d kB", &total)
		_, _ = fmt.Sscanf(line, "MemAvailable: %d kB", &available)
	}
	if available > total {
		return 0
	}
	return (total - available) / 1024
}
