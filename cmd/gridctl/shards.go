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
	showOnce := withReading(0, func(_ *cli.Context, s *session, how transport.Reading) error {
		r, err := ask[transport.ShardMapOk](s, &transport.GetShardMap{Reading: how})
		if err != nil {
			return err
		}
		return out.show(mapBody(r), func(w io.Writer) {
			showMap(w, &r.Map)
			showRead(w, r.Seq, r.Read)
		})
	})
	show := &cli.Command{
		Name: "map", Usage: "every shard with its replicas and leader",
		Flags: readFlags(&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "print the map again whenever it has changed, until interrupted"}),
		Action: func(c *cli.Context) error {
			if c.Bool("watch") {
				return watchMap(c, out)
			}
			return showOnce(c)
		},
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
	return &cli.Command{Name: "shards", Usage: "the shard map", Subcommands: []*cli.Command{show, locate, replicasCommand(out)}}
}

// mapOkJSON is the JSON of one answer.
type mapOkJSON struct {
	shardsJSON
	readJSON
}

func mapBody(r *transport.ShardMapOk) mapOkJSON {
	return mapOkJSON{mapJSON(&r.Map), readJSON{r.Seq, r.Read}}
}

// watchMap prints the map and each newer one that it is quick enough to see; for programs one line each.
func watchMap(c *cli.Context, out *printer) error {
	for _, flag := range []string{"consistency", "max-staleness", "min-seq"} {
		if c.IsSet(flag) {
			return usagef("--%s is not for --watch, which follows one master's state, and the next one's when that ends", flag)
		}
	}
	return withUnlimited(func(c *cli.Context, s *session) error {
		sdk, err := s.store()
		if err != nil {
			return err
		}
		defer sdk.Close()
		return sdk.WatchShardMap(s.ctx, event.Position{}, func(r *transport.ShardMapOk) error {
			if out.format != formatTable {
				return out.each(mapBody(r), "")
			}
			showMap(out.w, &r.Map)
			_, err := fmt.Fprintln(out.w)
			return err
		})
	})(c)
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
			text := fmt.Sprintf("%s@%s", r.NodeID, dash(r.Endpoint))
			if r.Role == shardmap.Learner {
				text += " (learner)"
			}
			replicas = append(replicas, text)
		}
		lines = append(lines, []any{s.ShardID, s.State, dash(s.Leader), strings.Join(replicas, " ")})
	}
	rows(w, []any{"SHARD", "STATE", "LEADER", "REPLICAS"}, lines)
}
