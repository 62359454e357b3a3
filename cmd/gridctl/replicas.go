package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func replicasCommand(out *printer) *cli.Command {
	node := &cli.StringFlag{Name: "node", Usage: "this `NODE`", Required: true}
	noWait := &cli.BoolFlag{Name: "no-wait", Usage: "return when the change is on record, not when it is done"}
	yes := &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"}
	verb := func(name, usage string, change func(c *cli.Context) transport.AssignReplica, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "SHARD", Flags: append(flags, noWait), Action: changeReplicas(out, change)}
	}
	return &cli.Command{Name: "replicas", Usage: "change the replicas of a shard; see docs/shards.md", Subcommands: []*cli.Command{
		verb("add", "give the shard one more replica", func(c *cli.Context) transport.AssignReplica {
			return transport.AssignReplica{NodeID: event.NodeID(c.String("node")), Role: event.RoleLearner}
		}, node),
		verb("remove", "take a replica out for good; its node deletes its data", func(c *cli.Context) transport.AssignReplica {
			return transport.AssignReplica{NodeID: event.NodeID(c.String("node")), Role: event.RoleLeaving}
		}, node, yes),
		verb("replace", "add a replica, then remove another one for good", func(c *cli.Context) transport.AssignReplica {
			return transport.AssignReplica{NodeID: event.NodeID(c.String("to")), Role: event.RoleLearner, Replaces: event.NodeID(c.String("from"))}
		}, &cli.StringFlag{Name: "from", Usage: "the `NODE` whose replica goes", Required: true},
			&cli.StringFlag{Name: "to", Usage: "the `NODE` that gets one", Required: true}, yes),
		verb("keep", "take back that a replica is to be removed or replaced", func(c *cli.Context) transport.AssignReplica {
			return transport.AssignReplica{NodeID: event.NodeID(c.String("node")), Role: event.RoleVoter}
		}, node),
	}}
}

// changeReplicas asks for a change and follows the map until it is done.
func changeReplicas(out *printer, change func(c *cli.Context) transport.AssignReplica) cli.ActionFunc {
	run := func(c *cli.Context, s *session) error {
		req := change(c)
		req.ShardID = event.ShardID(c.Args().First())
		r, err := ask[transport.AssignReplicaOk](s, &req)
		if err != nil {
			return err
		}
		if !c.Bool("no-wait") && req.Role != event.RoleVoter {
			if err := awaitReplica(c, &req, r.ReplicaID); err != nil {
				return err
			}
		}
		return out.show(r, func(w io.Writer) { fmt.Fprintln(w, replicaText(&req, r, c.Bool("no-wait"))) })
	}
	return func(c *cli.Context) error {
		req := change(c)
		going := req.Replaces
		if req.Role == event.RoleLeaving {
			going = req.NodeID
		}
		if c.NArg() == 1 && going != "" && !c.Bool("yes") {
			if err := out.confirm(c.App.Reader, fmt.Sprintf("Remove the replica of %s on %s for good?", c.Args().First(), going)); err != nil {
				return err
			}
		}
		return withSession(1, run)(c)
	}
}

func replicaText(req *transport.AssignReplica, r *transport.AssignReplicaOk, early bool) string {
	switch {
	case req.Role == event.RoleVoter:
		return fmt.Sprintf("the replica of %s on %s stays", req.ShardID, req.NodeID)
	case early:
		return fmt.Sprintf("the change of %s is on record (event %d); see gridctl shards map", req.ShardID, r.Seq)
	case req.Role == event.RoleLeaving:
		return fmt.Sprintf("%s is removed from %s", r.ReplicaID, req.ShardID)
	}
	return fmt.Sprintf("%s votes in %s", r.ReplicaID, req.ShardID)
}

// errReplicaDone ends the watch.
var errReplicaDone = errors.New("the change is done")

// awaitReplica takes as long as it takes: a new replica may have much to fetch.
func awaitReplica(c *cli.Context, req *transport.AssignReplica, id event.ReplicaID) error {
	s, err := open(c, noLimit)
	if err != nil {
		return err
	}
	defer s.close()
	sdk, err := s.store()
	if err != nil {
		return err
	}
	defer sdk.Close()
	err = sdk.WatchShardMap(s.ctx, event.Position{}, func(r *transport.ShardMapOk) error { return replicaDone(&r.Map, req, id) })
	if errors.Is(err, errReplicaDone) {
		return nil
	}
	return err
}

// replicaDone is errReplicaDone when a map shows the change done, nil while it is under way, and otherwise why it never will be.
func replicaDone(m *shardmap.Map, req *transport.AssignReplica, id event.ReplicaID) error {
	s, ok := m.ByID(req.ShardID)
	if !ok {
		return nil
	}
	r, there := s.ByReplica(id)
	if req.Role == event.RoleLeaving {
		switch {
		case !there:
			return errReplicaDone
		case !r.Leaving:
			return &event.Error{Kind: event.KindConflict, Op: "remove replica", Message: fmt.Sprintf("somebody asked for %s to stay", id)}
		}
		return nil
	}
	switch {
	case !there || r.Leaving:
		return &event.Error{Kind: event.KindConflict, Op: "add replica", Message: fmt.Sprintf("%s was taken back", id)}
	case r.Role != shardmap.Voter:
		return nil
	}
	for _, other := range s.Replicas {
		if other.NodeID == req.Replaces && other.Leaving {
			return nil
		}
	}
	return errReplicaDone
}
