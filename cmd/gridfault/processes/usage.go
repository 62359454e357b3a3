package processes

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
	"github.com/sutra-grid/sutra-grid/internal/usage"
)

// Usage implements rig.Grid. A process that is down is left out. Heap and goroutines are those of masters: nodes and agents do not tell.
func (g *Grid) Usage() ([]rig.Usage, error) {
	var list []rig.Usage
	var faults []error
	for _, v := range all(g.machines...) {
		t, err := v.open()
		if errors.Is(err, errDown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		u, err := t.usage()
		t.close()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err == nil && v.m.role == roleMaster {
			g.inside(v.m, &u)
		}
		faults = append(faults, err)
		list = append(list, u)
	}
	return list, errors.Join(faults...)
}

// usage is what the kernel says of a process, and the size of its machine's data, which is told of the machine's own program only.
func (t *target) usage() (rig.Usage, error) {
	u := rig.Usage{Process: t.String()}
	used, err := usage.Of(t.pid)
	u.Files, u.RSSBytes = used.Files+used.Store, used.RSSBytes
	if err == nil && t.node == "" {
		u.DiskBytes, err = usage.Disk(t.m.dir)
	}
	return u, err
}

// maxMetrics bounds a master's metrics.
const maxMetrics = 4 << 20

// inside fills in what a master tells of itself. One that does not answer now tells nothing.
func (g *Grid) inside(m *machine, u *rig.Usage) {
	body, _, err := g.get(context.Background(), m, "/metrics")
	if err != nil {
		return
	}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "go_goroutines":
			u.Goroutines = int(n)
		case "go_memstats_heap_inuse_bytes":
			u.HeapBytes = int64(n)
		}
	}
}

// get asks a master over HTTP, on a connection of its own.
func (g *Grid) get(ctx context.Context, m *machine, path string) (body string, header http.Header, err error) {
	network := g.Network(deskName)
	client := http.Client{Timeout: askLimit, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return network.Dial(ctx, addr) }}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.http+path, nil)
	if err != nil {
		return "", nil, err
	}
	r, err := client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, maxMetrics))
	return string(text), r.Header, err
}
