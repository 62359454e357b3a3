package servers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Etcd is three etcd processes.
type Etcd struct {
	Endpoints []string // of clients

	self    string // our own program
	dir     string
	peers   []string
	members []*child
	ask     *clientv3.Client
}

// etcdMembers are as many as there are masters.
const etcdMembers = 3

const (
	etcdReady = 60 * time.Second
	etcdEnd   = 15 * time.Second
)

// StartEtcd starts a new cluster, and waits until it answers.
func StartEtcd(ctx context.Context, self, dir string) (_ *Etcd, err error) {
	dir, err = subdir(dir, "etcd")
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddresses(2 * etcdMembers)
	if err != nil {
		return nil, err
	}
	e := &Etcd{self: self, dir: dir, Endpoints: addrs[:etcdMembers], peers: addrs[etcdMembers:], members: make([]*child, etcdMembers)}
	for i := range etcdMembers { // none is ready before a majority runs
		if err := e.start(i); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	for _, m := range e.members {
		if err := m.await(ctx, etcdReady); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	if e.ask, err = DialEtcd(e.Endpoints); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func memberName(i int) string { return fmt.Sprintf("etcd-%d", i+1) }

func (e *Etcd) start(i int) (err error) {
	var cluster []string
	for j, p := range e.peers {
		cluster = append(cluster, memberName(j)+"=http://"+p)
	}
	name := memberName(i)
	e.members[i], err = launch(program{name: name, path: e.self, log: filepath.Join(e.dir, name+".log"), ready: "ready", stop: syscall.SIGTERM,
		args: []string{EtcdCommand, name, filepath.Join(e.dir, name), e.Endpoints[i], e.peers[i], strings.Join(cluster, ",")}})
	return err
}

// DialEtcd is a client with one connection that is balanced over endpoints. It says nothing: its callers have its errors.
func DialEtcd(endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
}

// Leader is the index of the member that leads.
func (e *Etcd) Leader(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i, endpoint := range e.Endpoints {
		s, err := e.ask.Status(ctx, endpoint)
		if err != nil {
			return 0, fmt.Errorf("ask %s: %w", memberName(i), err)
		}
		if s.Header.MemberId == s.Leader {
			return i, nil
		}
	}
	return 0, errors.New("etcd has no leader")
}

// Kill ends a member with SIGKILL.
func (e *Etcd) Kill(i int) error { return e.members[i].cmd.Process.Kill() }

// Restart starts a member that was killed, and waits until it answers a linearizable read.
func (e *Etcd) Restart(ctx context.Context, i int) error {
	<-e.members[i].done
	if err := e.start(i); err != nil {
		return err
	}
	if err := e.members[i].await(ctx, etcdReady); err != nil {
		return err
	}
	c, err := DialEtcd(e.Endpoints[i : i+1])
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, etcdReady)
	defer cancel()
	return until(ctx, func() error {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := c.Get(one, "any")
		return err
	})
}

// Close ends the members and deletes their data.
func (e *Etcd) Close() error {
	var errs []error
	if e.ask != nil {
		errs = append(errs, e.ask.Close())
	}
	for _, m := range e.members {
		if m != nil {
			_ = m.cmd.Process.Signal(syscall.SIGTERM) // all at once: the last two could not agree on anything any more
		}
	}
	for _, m := range e.members {
		if m != nil {
			errs = append(errs, m.end(syscall.SIGTERM, etcdEnd))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

// EtcdCommand is the hidden command that ServeEtcd is behind.
const EtcdCommand = "etcd-member"

// ServeEtcd is one member, with etcd's defaults, until ctx ends. args: name, directory, client's address, peers' address, cluster.
func ServeEtcd(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("%s takes 5 arguments, not %d", EtcdCommand, len(args))
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = args[0], args[1], args[4]
	forClients, forPeers := []url.URL{{Scheme: "http", Host: args[2]}}, []url.URL{{Scheme: "http", Host: args[3]}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = forClients, forClients
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = forPeers, forPeers
	cfg.LogLevel = "warn" // what it says at ease is of no interest here
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("ready")
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-e.Err():
		return err
	case <-e.Server.StopNotify():
		return errors.New("the server stopped by itself")
	case <-ctx.Done():
		return nil
	}
}
