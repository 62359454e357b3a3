package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sutra-grid/sutra-grid/bench/report"
)

// identity is what each row of this run says of it.
func (b *bench) identity(ctx context.Context) (report.Row, error) {
	host, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return report.Row{}, err
	}
	var mem unix.Sysinfo_t
	if err := unix.Sysinfo(&mem); err != nil {
		return report.Row{}, err
	}
	machine := fmt.Sprintf("%s, %d cores, %d GiB, Linux %s", cpuModel(string(host)), runtime.NumCPU(), (uint64(mem.Totalram)*uint64(mem.Unit)+(1<<29))>>30, kernel())
	return report.Row{Version: b.version(ctx), Date: time.Now().UTC().Format(time.RFC3339), Machine: machine}, nil
}

func cpuModel(cpuinfo string) string {
	lines := bufio.NewScanner(strings.NewReader(cpuinfo))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// version is the commit that is measured, as git tells it, marked if anything but results was changed since.
func (b *bench) version(ctx context.Context) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Dir(b.data)}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("describe", "--always", "--tags")
	if err != nil {
		return "unknown"
	}
	if changed, err := git("status", "--porcelain", "--", ".", ":!*RESULTS.*", ":!bench/GROWTH.json", ":!docs/growth", ":!docs/performance.md", ":!*SOAK.*"); err != nil || changed != "" {
		commit += "-dirty"
	}
	return commit
}

// about is what RESULTS.md says of the run, with the floors under its figures.
func (b *bench) about() []string {
	lines := []string{
		fmt.Sprintf("version %s, %s, %s", b.base.Version, b.base.Date, b.base.Machine),
		fmt.Sprintf("%s; peers: %s", runtime.Version(), strings.Join(peerVersions(), ", ")),
		fmt.Sprintf("%d rounds, P1 for %s, seed %d; machine load when it began: %s", b.rounds, b.duration, b.seed, loadAverage()),
	}
	sync, err := syncFloor(b.dir)
	if err == nil {
		lines = append(lines, fmt.Sprintf("floors: fdatasync of 4 KiB %.3f ms (median), a round trip over loopback %.3f ms", millis(sync), millis(tripFloor())))
	}
	return lines
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// peerVersions are those of the modules that this program is built with.
func peerVersions() (all []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if m.Path == "go.etcd.io/etcd/server/v3" || m.Path == "github.com/jackc/pgx/v5" {
			all = append(all, m.Path+" "+m.Version)
		}
	}
	return all
}

// etcdVersion is the version of the peer of P1 to P4.
func etcdVersion() string {
	for _, v := range peerVersions() {
		if name, version, _ := strings.Cut(v, " "); name == "go.etcd.io/etcd/server/v3" {
			return "etcd " + strings.TrimPrefix(version, "v")
		}
	}
	return "etcd"
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// floorTries is how often a floor is measured.
const floorTries = 300

// syncFloor is what one fdatasync takes: the least a commit waits for.
func syncFloor(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var took []float64
	block := make([]byte, 4<<10)
	for range floorTries {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(began)))
	}
	return time.Duration(report.Median(took)), nil
}

// tripFloor is what 64 bytes take to another goroutine's socket and back.
func tripFloor() time.Duration {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 64)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0
	}
	defer c.Close()
	var took []float64
	b := make([]byte, 64)
	for range floorTries {
		began := time.Now()
		if _, err := c.Write(b); err != nil {
			return 0
		}
		if _, err := c.Read(b); err != nil {
			return 0
		}
		took = append(took, float64(time.Since(began)))
	}
	return time.Duration(report.Median(took))
}

// processorTime is what a process has used, in seconds, by /proc.
func processorTime(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, err // USER_HZ is 100 on every Linux that Go runs on
}
