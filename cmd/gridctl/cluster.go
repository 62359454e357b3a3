package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

func unexpected(req, reply any) error {
	return fmt.Errorf("%T was answered with %T; is this address a master's grid port?", req, reply)
}

// withSession runs a verb that takes exactly n arguments.
func withSession(n int, verb func(c *cli.Context, s *session) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != n {
			return usagef("%s takes %d argument(s), not %d; see `%s --help`", c.Command.Name, n, c.NArg(), c.Command.HelpName)
		}
		s, err := open(c, 0)
		if err != nil {
			return err
		}
		defer s.close()
		return verb(c, s)
	}
}

func statusCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "the grid on one screen: level, leader, masters, agents, nodes, shards, feed lag",
		Flags: readFlags(),
		Action: withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error {
			st, err := ask[transport.ClusterStatus](s, &transport.GetClusterStatus{Reading: how})
			if err != nil {
				return err
			}
			if err := out.show(st, func(w io.Writer) { showStatus(w, st) }); err != nil {
				return err
			}
			if st.Status != "ok" {
				return statusError(exitUnreachable)
			}
			return nil
		}),
	}
}

func showStatus(w io.Writer, st *transport.ClusterStatus) {
	level := st.Level
	if st.Reason != "" {
		level += " (" + st.Reason + ")"
	}
	formed := 0
	for _, s := range st.Shards {
		if s.State == shardmap.Formed && s.Live == s.Want {
			formed++
		}
	}
	fmt.Fprintf(w, "grid     %s\nlevel    %s\nleader   %s\n", st.GridID, level, dash(st.Leader))
	fmt.Fprintf(w, "agents   %d of %d healthy\nnodes    %d of %d running\nshards   %d of %d whole\n",
		st.HealthyAgents, st.TotalAgents, st.RunningStorageNodes, st.TotalStorageNodes, formed, len(st.Shards))
	fmt.Fprintf(w, "feed     %d events behind\nseq      %d\n\n", st.FeedLagEvents, st.Seq)
	showPeers(w, st.Masters)
	showRead(w, st.Seq, transport.Read{ReadMode: st.ReadMode, AgeMillis: st.AgeMillis})
}

func agentsCommand(out *printer) *cli.Command {
	list := &cli.Command{
		Name: "list", Usage: "all agents",
		Flags: readFlags(),
		Action: withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error {
			r, err := ask[transport.ListAgentsOk](s, &transport.ListAgents{Reading: how})
			if err != nil {
				return err
			}
			body := struct {
				Agents []transport.AgentRecord `json:"agents"`
				readJSON
			}{orEmpty(r.Agents), readJSON{r.Seq, r.Read}}
			return out.show(body, func(w io.Writer) {
				showAgents(w, r.Agents)
				showRead(w, r.Seq, r.Read)
			})
		}),
	}
	show := &cli.Command{
		Name: "show", Usage: "one agent with its storage nodes", ArgsUsage: "AGENT",
		Flags: readFlags(),
		Action: withReading(1, func(c *cli.Context, s *session, how transport.Reading) error {
			r, err := ask[transport.GetAgentOk](s, &transport.GetAgent{AgentID: event.AgentID(c.Args().First()), Reading: how})
			if err != nil {
				return err
			}
			body := struct {
				transport.AgentRecord
				readJSON
			}{r.Agent, readJSON{r.Seq, r.Read}}
			return out.show(body, func(w io.Writer) {
				showAgents(w, []transport.AgentRecord{r.Agent})
				fmt.Fprintln(w)
				showNodes(w, withAgent(r.Agent.StorageNodes, r.Agent.AgentID))
				showRead(w, r.Seq, r.Read)
			})
		}),
	}
	return &cli.Command{Name: "agents", Usage: "the agents, which run storage nodes", Subcommands: []*cli.Command{list, show}}
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func withAgent(nodes []transport.NodeRecord, id event.AgentID) []transport.NodeRecord {
	for i := range nodes {
		nodes[i].AgentID = id
	}
	return nodes
}

func showAgents(w io.Writer, agents []transport.AgentRecord) {
	var lines [][]any
	for _, a := range agents {
		seen := "never"
		if a.LastHeartbeat > 0 {
			seen = time.Since(time.Unix(a.LastHeartbeat, 0)).Round(time.Second).String() + " ago"
		}
		lines = append(lines, []any{a.AgentID, a.Status, a.Hostname, a.Platform, dash(a.AgentEndpoint),
			fmt.Sprintf("%d/%d", a.CurrentStorageNodes, a.MaxStorageNodes), seen, dash(a.Zone), dash(a.Version)})
	}
	rows(w, []any{"AGENT", "STATUS", "HOST", "PLATFORM", "ENDPOINT", "NODES", "HEARTBEAT", "ZONE", "VERSION"}, lines)
}

func nodesCommand(out *printer) *cli.Command {
	return &cli.Command{Name: "nodes", Usage: "the storage nodes", Subcommands: []*cli.Command{{
		Name: "list", Usage: "all storage nodes",
		Flags: readFlags(),
		Action: withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error {
			r, err := ask[transport.ListNodesOk](s, &transport.ListNodes{Reading: how})
			if err != nil {
				return err
			}
			body := struct {
				Nodes []transport.NodeRecord `json:"nodes"`
				readJSON
			}{orEmpty(r.Nodes), readJSON{r.Seq, r.Read}}
			return out.show(body, func(w io.Writer) {
				showNodes(w, r.Nodes)
				showRead(w, r.Seq, r.Read)
			})
		}),
	}}}
}

func showNodes(w io.Writer, nodes []transport.NodeRecord) {
	var lines [][]any
	for _, n := range nodes {
		var shards []string
		for _, id := range n.Shards {
			shards = append(shards, string(id))
		}
		lines = append(lines, []any{n.NodeID, dash(n.AgentID), n.Status, n.PID, dash(n.Endpoint), dash(strings.Join(shards, ",")), n.RestartCount})
	}
	rows(w, []any{"NODE", "AGENT", "STATUS", "PID", "ENDPOINT", "SHARDS", "RESTARTS"}, lines)
}
