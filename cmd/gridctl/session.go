package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/transport"
)

// defaultMaster is asked when neither flag, environment nor context file names another.
const defaultMaster = "localhost:7002"

// gridContext is the context file `gridctl dev` writes: where the grid of this machine is.
type gridContext struct {
	Masters []string `yaml:"masters"`
	Events  string   `yaml:"events"`
}

// contextPath is $XDG_CONFIG_HOME/sutra-grid/context.yaml.
func contextPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "sutra-grid", "context.yaml"), nil
}

// readContext gives an empty context when there is no file, and an error when it cannot be understood.
func readContext() (gridContext, error) {
	var g gridContext
	path, err := contextPath()
	if err != nil {
		return g, nil // no home directory: no context
	}
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return g, nil
	}
	if err != nil {
		return g, err
	}
	if err := yaml.Unmarshal(text, &g); err != nil {
		return g, usagef("context file %s: %v; delete it or name the masters with --master", path, err)
	}
	return g, nil
}

// session is one command's connection to a grid.
type session struct {
	ctx     context.Context
	cancel  context.CancelFunc
	pool    *transport.Pool
	masters *transport.Masters
	addrs   []string
	context gridContext
}

// open resolves the masters and starts the command's deadline; limit 0 means --timeout.
func open(c *cli.Context, limit time.Duration) (*session, error) {
	g, err := readContext()
	if err != nil {
		return nil, err
	}
	addrs := masterAddresses(c.StringSlice("master"), g)
	for _, a := range addrs {
		if !strings.Contains(a, ":") {
			return nil, usagef("--master %q: want host:port", a)
		}
	}
	if limit == 0 {
		limit = c.Duration("timeout")
	}
	ctx, cancel := context.WithTimeout(c.Context, limit)
	pool := transport.NewPool(transport.PoolConfig{Network: transport.TCP()})
	return &session{ctx: ctx, cancel: cancel, pool: pool, masters: transport.NewMasters(addrs, pool), addrs: addrs, context: g}, nil
}

func masterAddresses(flags []string, g gridContext) []string {
	var addrs []string
	for _, f := range flags {
		for a := range strings.SplitSeq(f, ",") {
			if a = strings.TrimSpace(a); a != "" {
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		addrs = g.Masters
	}
	if len(addrs) == 0 {
		addrs = []string{defaultMaster}
	}
	return addrs
}

func (s *session) close() {
	s.cancel()
	_ = s.pool.Close() // the process ends; nothing is buffered in it
}

// store opens the SDK, which talks to the shards.
func (s *session) store() (*client.Client, error) {
	return client.New(client.Config{Masters: s.addrs, Network: transport.TCP()})
}

// ask sends one grid request and returns its typed reply.
func ask[T any](s *session, req any) (*T, error) {
	reply, err := s.masters.Call(s.ctx, req)
	if err != nil {
		return nil, err
	}
	t, ok := reply.(*T)
	if !ok {
		return nil, unexpected(req, reply)
	}
	return t, nil
}
