package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/fsm/shardmap"
	"github.com/sutra-grid/sutra-grid/transport"
)

// The JSON of `gridctl shards map`.
type (
	shardsJSON struct {
		Epoch    uint64      `json:"epoch"`
		Strategy string      `json:"strategy"`
		Shards   []shardJSON `json:"shards"`
	}
	shardJSON struct {
		ShardID  event.ShardID `json:"shard_id"`
		Leader   event.NodeID  `json:"leader"`
		State    string        `json:"state"`
		Replicas []replicaJSON `json:"replicas"`
	}
	replicaJSON struct {
		NodeID   event.NodeID  `json:"node_id"`
		AgentID  event.AgentID `json:"agent_id"`
		Endpoint string        `json:"endpoint"`
		Role     string        `json:"role"`
	}
)

func shardsCommand(out *printer) *cli.Command {
	show := &cli.Command{
		Name: "map", Usage: "every shard with its replicas and leader",
		Flags: readFlags(),
		Action: withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error {
			r, err := ask[transport.ShardMapOk](s, &transport.GetShardMap{Reading: how})
			if err != nil {
				return err
			}
			body := struct {
				shardsJSON
				readJSON
			}{mapJSON(&r.Map), readJSON{r.Seq, r.Read}}
			return out.show(body, func(w io.Writer) {
				showMap(w, &r.Map)
				showRead(w, r.Seq, r.Read)
			})
		}),
	}
	locate := &cli.Command{
		Name: "locate", Usage: "the shard that owns a concept id, and who serves it", ArgsUsage: "ID",
		Flags: readFlags(),
		Action: withReading(1, func(c *cli.Context, s *session, how transport.Reading) error {
			r, err := ask[transport.ShardMapOk](s, &transport.GetShardMap{Reading: how})
			if err != nil {
				return err
			}
			shard, err := r.Map.Shard(c.Args().First())
			if err != nil {
				return err
			}
			one := struct {
				shardJSON
				readJSON
			}{shardToJSON(shard), readJSON{r.Seq, r.Read}}
			return out.show(one, func(w io.Writer) {
				showShards(w, []shardJSON{one.shardJSON})
				showRead(w, r.Seq, r.Read)
			})
		}),
	}
	return &cli.Command{Name: "shards", Usage: "the shard map", Subcommands: []*cli.Command{show, locate}}
}

func mapJSON(m *shardmap.Map) shardsJSON {
	j := shardsJSON{Epoch: m.Epoch.Seq, Strategy: m.Strategy, Shards: []shardJSON{}}
	for i := range m.Shards {
		j.Shards = append(j.Shards, shardToJSON(&m.Shards[i]))
	}
	return j
}

func shardToJSON(s *shardmap.Shard) shardJSON {
	j := shardJSON{ShardID: s.ID, Leader: s.Leader, State: s.State}
	for _, r := range s.Replicas {
		j.Replicas = append(j.Replicas, replicaJSON{NodeID: r.NodeID, AgentID: r.AgentID, Endpoint: r.Endpoint, Role: r.Role})
	}
	return j
}

func showMap(w io.Writer, m *shardmap.Map) {
	fmt.Fprintf(w, "strategy %s, %d of %d shards, %d replicas each, epoch %d\n\n", dash(m.Strategy), len(m.Shards), m.Base, m.Replicas, m.Epoch.Seq)
	showShards(w, mapJSON(m).Shards)
}

func showShards(w io.Writer, shards []shardJSON) {
	var lines [][]any
	for _, s := range shards {
		var replicas []string
		for _, r := range s.Replicas {
			replicas = append(replicas, fmt.Sprintf("%s@%s", r.NodeID, dash(r.Endpoint)))
		}
		lines = append(lines, []any{s.ShardID, s.State, dash(s.Leader), strings.Join(replicas, " ")})
	}
	rows(w, []any{"SHARD", "STATE", "LEADER", "REPLICAS"}, lines)
}
