package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode"
)

// The verbs on the data directory of a node that does not run (docs/offline.md).

// findings is how many problems `verify` prints of one replica; a damaged file may be behind thousands.
const findings = 100

// errDamaged is the outcome of a check that found something, all of which has been printed.
var errDamaged = errors.New("damage was found")

func offlineCommands(e env) []*cli.Command {
	data := &cli.StringFlag{Name: "data", Usage: "the data `DIR` of a stopped node, or a copy of it"}
	shard := &cli.StringFlag{Name: "shard", Usage: "only this `SHARD`"}
	output := &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "table, or json: one object a line"}
	return []*cli.Command{
		{Name: "inspect", Usage: "what a stopped node's directory holds; nothing in it is changed", Flags: []cli.Flag{data, shard, output},
			Action: onStopped(e, inspect)},
		{Name: "verify", Usage: "check every checksum of a stopped node, and that its rows agree; status 1 when something is wrong", Flags: []cli.Flag{data, shard, output},
			Action: onStopped(e, verify)},
		{Name: "dump", Usage: "write what a stopped node holds as lines of JSON, as `gridctl import` reads them", Flags: []cli.Flag{data, shard,
			&cli.StringFlag{Name: "what", Value: "data", Usage: "data (concepts, then associations), concepts, associations, transactions (in doubt), or log"}},
			Action: onStopped(e, dump)},
		{Name: "compact", Usage: "rewrite a stopped node's stores so that nothing deleted takes room; each needs as much room again meanwhile", Flags: []cli.Flag{data, shard},
			Action: func(c *cli.Context) error { return compact(c, e) }},
	}
}

// stopped is a verb's directory, the replicas that were asked for, and where it prints.
type stopped struct {
	node     *storagenode.Stopped
	replicas []*storagenode.StoppedReplica
	out      io.Writer
	json     bool
	what     string
}

// onStopped runs a verb on a directory.
func onStopped(e env, verb func(context.Context, *stopped) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		if err := checkOffline(c); err != nil {
			return err
		}
		node, err := storagenode.OpenStopped(c.String("data"), offlineLog(e))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, node.Close()) }()
		out := bufio.NewWriter(e.stdout)
		s := &stopped{node: node, out: out, json: c.String("output") == "json", what: c.String("what")}
		for _, r := range node.Replicas() {
			if shard := c.String("shard"); shard == "" || string(r.ShardID) == shard {
				s.replicas = append(s.replicas, r)
			}
		}
		if shard := c.String("shard"); shard != "" && len(s.replicas) == 0 {
			return fmt.Errorf("%s holds no replica of %s", c.String("data"), shard)
		}
		return errors.Join(verb(c.Context, s), out.Flush())
	}
}

func checkOffline(c *cli.Context) error {
	if c.Args().Present() {
		return usageError{fmt.Errorf("unexpected argument %q", c.Args().First())}
	}
	if c.String("data") == "" {
		return usageError{errors.New("--data is missing")}
	}
	if o := c.String("output"); o != "" && o != "table" && o != "json" {
		return usageError{fmt.Errorf("--output %q: want table or json", o)}
	}
	return nil
}

func offlineLog(e env) *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// each prints one object a line.
func (s *stopped) each(v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = s.out.Write(append(b, '\n'))
	}
	return err
}

// replicaJSON is what `inspect` tells of one replica.
type replicaJSON struct {
	ShardID   event.ShardID   `json:"shard_id"`
	ReplicaID event.ReplicaID `json:"replica_id"`
	Format    uint32          `json:"format"`
	Applied   uint64          `json:"applied"`
	LogTime   string          `json:"log_time"`
	Concepts  uint64          `json:"concepts"`
	Edges     uint64          `json:"edges"`
	Vectors   uint64          `json:"vectors"`
	Dimension uint32          `json:"dimension"`
	InDoubt   []string        `json:"in_doubt"`
	Store     string          `json:"store"`
	Tables    int             `json:"tables"`
	Bytes     uint64          `json:"bytes"`
	Log       logJSON         `json:"log"`
	Problems  []string        `json:"problems"`
}

type logJSON struct {
	First     uint64          `json:"first"`
	Last      uint64          `json:"last"`
	Torn      bool            `json:"torn"`
	Term      uint64          `json:"term"`
	VotedTerm uint64          `json:"voted_term"`
	VotedFor  event.ReplicaID `json:"voted_for"`
	Snapshots []string        `json:"snapshots"`
}

func inspect(_ context.Context, s *stopped) error {
	var all []replicaJSON
	for _, r := range s.replicas {
		all = append(all, inspectReplica(r))
	}
	if s.json {
		for _, r := range all {
			if err := s.each(r); err != nil {
				return err
			}
		}
		return nil
	}
	id := s.node.Identity()
	fmt.Fprintf(s.out, "node   %s (store %s)\ngrid   %s\n", id.ID, id.StoreID, id.GridID)
	epoch, shards, found, err := s.node.Map()
	switch {
	case err != nil:
		fmt.Fprintf(s.out, "map    not readable, the node asks the masters again: %v\n", err)
	case found:
		fmt.Fprintf(s.out, "map    epoch %d, %d shards\n", epoch.Seq, shards)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSHARD\tAPPLIED\tCONCEPTS\tEDGES\tVECTORS\tIN DOUBT\tMIB\tLOG\tTERM\tTIME")
	for _, r := range all {
		log := fmt.Sprintf("%d-%d", r.Log.First, r.Log.Last)
		if r.Log.Torn {
			log += " (torn)"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%s\t%d\t%s\n", r.ShardID, r.Applied, r.Concepts, r.Edges, r.Vectors, len(r.InDoubt),
			float64(r.Bytes)/(1<<20), log, r.Log.Term, r.LogTime)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range all {
		for _, p := range r.Problems {
			fmt.Fprintf(s.out, "PROBLEM %s: %s\n", r.ShardID, p)
		}
	}
	return nil
}

// inspectReplica says all that it can; what cannot be read is a problem.
func inspectReplica(r *storagenode.StoppedReplica) replicaJSON {
	j := replicaJSON{ShardID: r.ShardID, ReplicaID: r.ReplicaID, InDoubt: []string{}, Problems: []string{}, Log: logJSON{Snapshots: []string{}}}
	if err := j.readState(r); err != nil {
		j.Problems = append(j.Problems, oneLine(err))
	}
	if err := j.readLog(r); err != nil {
		j.Problems = append(j.Problems, oneLine(err))
	}
	return j
}

func (j *replicaJSON) readState(r *storagenode.StoppedReplica) error {
	x, err := r.State()
	if err != nil {
		return err
	}
	s, err := x.Summary()
	j.Format, j.Applied, j.Concepts, j.Edges, j.Vectors, j.Dimension = s.Format, s.Applied, s.Concepts, s.Edges, s.Vectors, s.Dimension
	j.Store, j.Tables, j.Bytes = s.Store, s.Tables, s.Bytes
	if s.LogTime > 0 {
		j.LogTime = time.UnixMicro(s.LogTime).UTC().Format("2006-01-02T15:04:05.000000Z")
	}
	prepared, err2 := x.Prepared()
	for _, p := range prepared {
		j.InDoubt = append(j.InDoubt, p.TxnID.String())
	}
	return errors.Join(err, err2, x.Close())
}

func (j *replicaJSON) readLog(r *storagenode.StoppedReplica) error {
	log, err := r.Log()
	if err != nil {
		return err
	}
	vote, err := log.Vote()
	j.Log.First, j.Log.Term, j.Log.VotedTerm, j.Log.VotedFor = log.First(), vote.Term, vote.VotedTerm, vote.Candidate
	for e := range log.Log(0, 0) {
		switch {
		case e.Torn:
			j.Log.Torn = true
		case e.Damage != nil:
			err = errors.Join(err, fmt.Errorf("%s, offset %d: entry %d: %w", e.File, e.Offset, e.Index, e.Damage))
		default:
			j.Log.Last = e.Index
		}
	}
	snapshots, problems := log.Snapshots()
	for _, s := range snapshots {
		j.Log.Snapshots = append(j.Log.Snapshots, s.ID)
	}
	return errors.Join(append(problems, err)...)
}

func verify(ctx context.Context, s *stopped) error {
	damaged := false
	for _, r := range s.replicas {
		var problems []string
		n := 0
		err := r.Verify(ctx, func(p error) {
			if n++; n <= findings {
				problems = append(problems, oneLine(p))
			}
		})
		if err != nil {
			return err
		}
		damaged = damaged || n > 0
		if err := s.verified(r.ShardID, problems, n); err != nil {
			return err
		}
	}
	if damaged {
		return errDamaged
	}
	return nil
}

func (s *stopped) verified(id event.ShardID, problems []string, n int) error {
	if s.json {
		return s.each(map[string]any{"shard_id": id, "ok": n == 0, "problems": append([]string{}, problems...), "count": n})
	}
	if n == 0 {
		fmt.Fprintf(s.out, "%s: ok\n", id)
		return nil
	}
	fmt.Fprintf(s.out, "DAMAGED %s: %d problems\n  %s\n", id, n, strings.Join(problems, "\n  "))
	if n > len(problems) {
		fmt.Fprintf(s.out, "  … and %d more\n", n-len(problems))
	}
	return nil
}

func compact(c *cli.Context, e env) error {
	if err := checkOffline(c); err != nil {
		return err
	}
	found := false
	err := storagenode.CompactStopped(c.Context, c.String("data"), event.ShardID(c.String("shard")), offlineLog(e), func(id event.ShardID, before, after uint64) {
		found = true
		fmt.Fprintf(e.stdout, "%s: %.1f MiB before, %.1f MiB after\n", id, float64(before)/(1<<20), float64(after)/(1<<20))
	})
	if err == nil && !found && c.String("shard") != "" {
		err = fmt.Errorf("%s holds no replica of %s", c.String("data"), c.String("shard"))
	}
	return err
}
