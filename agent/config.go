package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sutra-grid/sutra-grid/agent/platform"
	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// Platform runs storage nodes; agent/platform/process does it with processes.
type Platform interface {
	// Start runs what spec says. It calls record with the new instance's reference and pid when there is one and before it runs
	// anything; when record fails nothing runs, and Start returns that error. Start does not wait for the instance to be ready.
	Start(spec platform.Spec, record func(platform.Ref, int) error) (*platform.Instance, error)
	// Adopt watches an instance that was started before, with the same spec. platform.ErrGone: it ended.
	Adopt(ref platform.Ref, spec platform.Spec) (*platform.Instance, error)
}

// Config describes one agent. Start from DefaultConfig.
type Config struct {
	ID      event.AgentID
	Data    string   // the agent's directory: its record, its spool, its nodes
	Masters []string // grid ports, host:port
	Listen  string   // host:port of the agent's own port; its nodes listen on the same host
	// AdvertiseHost is the host under which others reach the agent and its nodes; empty: Listen's, or, when that is every
	// address of the machine, the machine's name.
	AdvertiseHost   string
	NodePorts       PortRange
	MaxStorageNodes uint32 // 0: healthy, and gets nothing assigned
	Zone            string
	Labels          map[string]string
	Version         string
	StopNodesOnExit bool // Close ends the nodes too; otherwise they go on and the next run adopts them

	Platform Platform
	GridNode string   // the storage node's program
	NodeArgs []string // further arguments of every node

	HeartbeatEvery time.Duration
	StartPatience  time.Duration // from a node's start until it is ready; then it is killed and started again
	StopPatience   time.Duration // from asking a node to end until it is killed

	Network transport.Network
	TLS     *tls.Config // for connections to masters, and for Listen; nil is plain
	Log     *slog.Logger
}

// DefaultConfig is for a data centre. ID, Data, Masters, Listen, NodePorts, Platform and GridNode are the caller's.
func DefaultConfig() Config {
	return Config{
		MaxStorageNodes: 1,
		// Half a minute without one is offline, half of that degraded: one lost heartbeat is neither, two are noticed.
		HeartbeatEvery: 10 * time.Second,
		// A node replays the logs of all its replicas before it is ready. Much less would kill one that only needs time, much
		// more would leave one that hangs unnoticed.
		StartPatience: 2 * time.Minute,
		// A node hands its groups' leadership over and flushes; both take a second or two, on a slow disk more.
		StopPatience: 10 * time.Second,
		Network:      transport.TCP(),
		Log:          slog.Default(),
	}
}

// Validate reports everything that is wrong, each with its value and bound.
func (c *Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.ID != "", "no agent id")
	check(len(c.ID) <= maxAgentID, "agent id of %d bytes: at most %d", len(c.ID), maxAgentID)
	check(c.Data != "", "no data directory")
	check(len(c.Masters) > 0, "no masters")
	for _, m := range c.Masters {
		check(isAddress(m), "master %q: want host:port", m)
	}
	check(isAddress(c.Listen), "listen address %q: want host:port", c.Listen)
	if err := c.NodePorts.check(); err != nil {
		faults = append(faults, fmt.Errorf("node ports: %w", err))
	}
	check(c.Platform != nil, "no platform to run nodes on")
	check(c.GridNode != "", "no storage node program")
	check(c.HeartbeatEvery > 0, "heartbeat every %s: must be above 0", c.HeartbeatEvery)
	check(c.StartPatience > 0, "start patience %s: must be above 0", c.StartPatience)
	check(c.StopPatience > 0, "stop patience %s: must be above 0", c.StopPatience)
	check(c.Network != nil, "no network")
	check(c.Log != nil, "no log")
	return errors.Join(faults...)
}

// maxAgentID leaves room in the emitter's name and in file names.
const maxAgentID = 128

func isAddress(s string) bool {
	_, port, err := net.SplitHostPort(s)
	return err == nil && port != ""
}

// advertisedHost is where others reach this machine.
func (c *Config) advertisedHost() string {
	if c.AdvertiseHost != "" {
		return c.AdvertiseHost
	}
	host, _, _ := net.SplitHostPort(c.Listen) // Validate has parsed it
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return host
	}
	return hostname()
}

// hostname is the machine's name, or localhost where it has none.
func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}
