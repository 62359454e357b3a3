package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/transport"
)

// raftCommand is the masters' replication: who they are, who leads, and how that changes (docs/masters.md).
func raftCommand(out *printer) *cli.Command {
	return &cli.Command{Name: "raft", Usage: "the masters' replication", Subcommands: []*cli.Command{
		raftPeers(out), raftAdd(out), raftRemove(out), raftTransfer(out), raftSnapshot(out),
		raftLogs(out), raftState(out), raftReplay(out), raftBisect(out),
	}}
}

func raftPeers(out *printer) *cli.Command {
	return &cli.Command{
		Name: "peers", Usage: "the masters and how far each has the log",
		Action: withSession(0, func(_ *cli.Context, s *session) error {
			r, err := ask[transport.RaftPeersOk](s, &transport.RaftPeers{})
			if err != nil {
				return err
			}
			return out.show(orEmpty(r.Peers), func(w io.Writer) { showPeers(w, r.Peers) })
		}),
	}
}

func showPeers(w io.Writer, peers []transport.Peer) {
	var lines [][]any
	for _, p := range peers {
		role := "follower"
		if p.Leader {
			role = "leader"
		}
		lines = append(lines, []any{p.ID, dash(p.Address), p.Suffrage, role, p.MatchIndex, dash(p.ReplicaID)})
	}
	rows(w, []any{"MASTER", "RAFT", "SUFFRAGE", "ROLE", "MATCH INDEX", "REPLICA"}, lines)
}

func raftAdd(out *printer) *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "admit a master that was started with --join", ArgsUsage: "MASTER",
		Description: "The master becomes a learner at once, and a voter when it has had the log for five seconds; see `gridctl raft peers`.",
		Action: withSession(1, func(c *cli.Context, s *session) error {
			id := event.MasterID(c.Args().First())
			r, err := ask[transport.AddMasterOk](s, &transport.AddMaster{MasterID: id})
			if err != nil {
				return err
			}
			return out.show(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s is a %s as %s\n", id, r.Suffrage, r.ReplicaID)
			})
		}),
	}
}

func raftRemove(out *printer) *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "take a master out of the grid for good", ArgsUsage: "MASTER|REPLICA",
		Description: "The master ends, and its data directory cannot come back. Where a master has two replicas because its disk was\n" +
			"replaced, the one that does not answer is meant; otherwise name the replica.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "shrink", Usage: "leave fewer than three voters although this one is well"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 1 && !c.Bool("yes") {
				if err := out.confirm(c.App.Reader, fmt.Sprintf("Remove %s from the masters for good?", c.Args().First())); err != nil {
					return err
				}
			}
			return withSession(1, func(c *cli.Context, s *session) error {
				r, err := ask[transport.RemoveMasterOk](s, &transport.RemoveMaster{ID: c.Args().First(), Shrink: c.Bool("shrink")})
				if err != nil {
					return err
				}
				return out.show(r, func(w io.Writer) { fmt.Fprintf(w, "%s is removed\n", r.ReplicaID) })
			})(c)
		},
	}
}

func raftTransfer(out *printer) *cli.Command {
	return &cli.Command{
		Name: "transfer", Usage: "hand leadership to another master",
		Flags: []cli.Flag{&cli.StringFlag{Name: "to", Usage: "this `MASTER` (default: the one that has the most of the log)"}},
		Action: withSession(0, func(c *cli.Context, s *session) error {
			r, err := ask[transport.TransferLeadershipOk](s, &transport.TransferLeadership{To: event.MasterID(c.String("to"))})
			if err != nil {
				return err
			}
			return out.show(r, func(w io.Writer) { fmt.Fprintf(w, "%s leads in term %d\n", r.Leader, r.Term) })
		}),
	}
}

func raftSnapshot(out *printer) *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "make a master write a snapshot and cut its log off behind it",
		Flags: []cli.Flag{&cli.StringFlag{Name: "on", Usage: "this `MASTER` (default: the leader)"}},
		Action: withSession(0, func(c *cli.Context, s *session) error {
			r, err := ask[transport.TakeSnapshotOk](s, &transport.TakeSnapshot{MasterID: event.MasterID(c.String("on"))})
			if err != nil {
				return err
			}
			return out.show(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s has a snapshot through event %d (log index %d)\n", r.MasterID, r.Seq, r.Index)
			})
		}),
	}
}
