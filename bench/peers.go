package main

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sutra-grid/sutra-grid/bench/servers"
	"github.com/sutra-grid/sutra-grid/internal/load"
)

// etcdKeys are as many as the settings that feed writes.
const etcdKeys = 64

// etcdLoad asks etcd what the workloads ask a grid: same values, same connections, straight to the leader.
type etcdLoad struct {
	clients []*clientv3.Client
}

func newEtcdLoad(endpoints []string, conns int) (*etcdLoad, error) {
	e := &etcdLoad{}
	for range conns {
		c, err := servers.DialEtcd(endpoints)
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		e.clients = append(e.clients, c)
	}
	return e, nil
}

// etcdAtLeader is a load on the leader alone.
func etcdAtLeader(ctx context.Context, s *servers.Etcd, conns int) (*etcdLoad, error) {
	leader, err := s.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return newEtcdLoad(s.Endpoints[leader:leader+1], conns)
}

func (e *etcdLoad) close() error {
	var errs []error
	for _, c := range e.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (e *etcdLoad) of(w *load.Worker) *clientv3.Client { return e.clients[w.Index%len(e.clients)] }

func etcdKey(n int) string { return fmt.Sprintf("bench.%d", n) }

// put writes 256 bytes.
func (e *etcdLoad) put(ctx context.Context, w *load.Worker) error {
	_, err := e.of(w).Put(ctx, etcdKey(w.Rand.IntN(etcdKeys)), load.Text(w.Rand, load.DefaultOptions().Size))
	return err
}

// fill writes every key once, so that each read finds one.
func (e *etcdLoad) fill(ctx context.Context) error {
	for n := range etcdKeys {
		if _, err := e.clients[0].Put(ctx, etcdKey(n), fmt.Sprintf("%0256d", n)); err != nil {
			return err
		}
	}
	return nil
}

// get reads a key, linearizable; a share of the requests writes.
func (e *etcdLoad) get(writes float64) load.Op {
	return func(ctx context.Context, w *load.Worker) error {
		if writes > 0 && w.Rand.Float64() < writes {
			return e.put(ctx, w)
		}
		r, err := e.of(w).Get(ctx, etcdKey(w.Rand.IntN(etcdKeys)))
		if err == nil && r.Count != 1 {
			return fmt.Errorf("etcd found %d values for a key that was written", r.Count)
		}
		return err
	}
}
