package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"github.com/sutra-grid/sutra-grid/master/offline"
)

// dataFlag names the directory of a stopped master; these commands ask no grid (docs/offline.md).
func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "data", Usage: "the data `DIR` of a stopped master, or a copy of it; nothing in it is changed"}
}

// withMaster runs a verb on a stopped master's directory.
func withMaster(verb func(c *cli.Context, m *offline.Master) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		if c.NArg() > 0 {
			return usagef("%s takes no argument; see `%s --help`", c.Command.Name, c.Command.HelpName)
		}
		if c.String("data") == "" {
			return usagef("%s reads the directory of a stopped master: name it with --data DIR; asking a live grid is not supported yet", c.Command.HelpName)
		}
		m, err := offline.Open(c.String("data"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.Close()) }()
		return verb(c, m)
	}
}

// The JSON of one entry of `gridctl raft logs`.
type (
	entryJSON struct {
		Index    uint64        `json:"index"`
		Term     uint64        `json:"term,omitempty"`
		Kind     string        `json:"kind,omitempty"`
		Time     string        `json:"time,omitempty"`
		Level    uint32        `json:"level,omitempty"`
		Bytes    int           `json:"bytes,omitempty"`
		File     string        `json:"file"`
		Offset   int64         `json:"offset"`
		Commands []commandJSON `json:"commands,omitempty"`
		Members  []string      `json:"members,omitempty"`
		Damage   string        `json:"damage,omitempty"`
		Torn     bool          `json:"torn,omitempty"`
	}
	commandJSON struct {
		Type      string          `json:"type"`
		Actor     string          `json:"actor,omitempty"`
		RequestID string          `json:"request_id,omitempty"`
		Emitter   string          `json:"emitter,omitempty"`
		Number    uint64          `json:"emitter_seq,omitempty"`
		Body      json.RawMessage `json:"body,omitempty"`
		Error     string          `json:"error,omitempty"`
	}
)

func entryToJSON(e raftgroup.LogEntry) entryJSON {
	j := entryJSON{Index: e.Index, Term: e.Term, Kind: e.Kind, Level: e.Entry.Level, Bytes: e.Size, File: e.File, Offset: e.Offset, Torn: e.Torn}
	if e.Entry.Time > 0 {
		j.Time = offlineTime(e.Entry.Time)
	}
	for _, raw := range e.Entry.Commands {
		j.Commands = append(j.Commands, commandToJSON(raw))
	}
	for _, m := range e.Members {
		j.Members = append(j.Members, fmt.Sprintf("%s (%s)", m.ID, m.Suffrage))
	}
	if e.Damage != nil {
		j.Damage = e.Damage.Error()
	}
	return j
}

func commandToJSON(raw []byte) commandJSON {
	c, err := event.DecodeCommand(raw)
	if err != nil {
		return commandJSON{Type: "undecodable", Error: err.Error()}
	}
	j := commandJSON{Type: c.Type.String(), Actor: c.Actor, Emitter: c.Emitter, Number: c.EmitterSeq}
	if !c.RequestID.IsZero() {
		j.RequestID = c.RequestID.String()
	}
	if j.Body, err = json.Marshal(offline.Plain(c.Body)); err != nil {
		j.Error = err.Error()
	}
	return j
}

func offlineTime(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// line is an entry for people: one line, wide with the commands' content.
func (e entryJSON) line(wide bool) string {
	if e.Kind == "" || e.Damage != "" {
		word := "DAMAGED"
		if e.Torn {
			word = "TORN"
		}
		return fmt.Sprintf("%8d  %s  %s, offset %d: %s", e.Index, word, e.File, e.Offset, oneLine(e.Damage))
	}
	var what []string
	for _, c := range e.Commands {
		if wide {
			what = append(what, c.Type+" "+string(c.Body)+c.Error)
		} else {
			what = append(what, c.Type)
		}
	}
	if !wide {
		what = counted(what)
	}
	what = append(what, e.Members...)
	return strings.TrimRight(fmt.Sprintf("%8d  %4d  %-27s  %-13s  %s", e.Index, e.Term, dash(e.Time), e.Kind, strings.Join(what, " ")), " ")
}

// counted joins what is repeated in a row: "agent_heartbeat×3".
func counted(words []string) []string {
	var out []string
	for i := 0; i < len(words); {
		n := 1
		for i+n < len(words) && words[i+n] == words[i] {
			n++
		}
		if n > 1 {
			out = append(out, fmt.Sprintf("%s×%d", words[i], n))
		} else {
			out = append(out, words[i])
		}
		i += n
	}
	return out
}

func raftLogs(out *printer) *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "the entries of a stopped master's log", Flags: []cli.Flag{
			dataFlag(),
			&cli.Uint64Flag{Name: "from", Usage: "first entry"},
			&cli.Uint64Flag{Name: "to", Usage: "last entry; 0 for the end"},
			&cli.UintFlag{Name: "limit", Usage: "at most this many; 0 for all"},
			&cli.BoolFlag{Name: "wide", Usage: "with the commands' content"},
		},
		Action: withMaster(func(c *cli.Context, m *offline.Master) error {
			printed, damaged := uint(0), false
			for e := range m.Log(c.Uint64("from"), c.Uint64("to")) {
				j := entryToJSON(e)
				if err := out.each(j, j.line(c.Bool("wide"))); err != nil {
					return err
				}
				damaged = damaged || e.Damage != nil
				if printed++; printed == c.Uint("limit") || c.Context.Err() != nil {
					break
				}
			}
			if damaged {
				return statusError(exitFailed)
			}
			return c.Context.Err()
		}),
	}
}

func raftState(out *printer) *cli.Command {
	return &cli.Command{
		Name: "state", Usage: "the masters' state behind an event, rebuilt from a stopped master's snapshot and log", Flags: []cli.Flag{
			dataFlag(), &cli.Uint64Flag{Name: "at", Usage: "`SEQ` of the event; without it, behind the last one"},
		},
		Action: withMaster(func(c *cli.Context, m *offline.Master) error {
			r, err := m.Last()
			if c.IsSet("at") {
				r, err = m.StateAt(c.Uint64("at"))
			}
			if err != nil {
				return err
			}
			state := stateJSON(r)
			return out.show(state, func(w io.Writer) { showState(w, r, state) })
		}),
	}
}

// stateJSON is a state as JSON: its place, its digests, and its objects by section.
func stateJSON(r offline.Rebuilt) map[string]any {
	s := r.State
	digest, local, chain := s.Digest(), s.LocalDigest(), s.Chain()
	j := map[string]any{
		"seq": s.Seq(), "index": r.Index, "time": offlineTime(s.Time()), "grid_id": s.GridID(), "level": s.Level(), "committed": r.Committed,
		"rebuilt_from": r.From, "digest": hex.EncodeToString(digest[:]), "local_digest": hex.EncodeToString(local[:]), "chain": hex.EncodeToString(chain[:]),
	}
	history, here := map[string][]any{}, map[string][]any{}
	for _, section := range []string{"agents", "nodes", "shards", "masters", "txns", "settings"} {
		history[section] = []any{}
	}
	for o := range s.Objects() {
		if o.History {
			history[o.Section] = append(history[o.Section], offline.Plain(o.Value))
		} else {
			here[o.Section] = append(here[o.Section], offline.Plain(o.Value))
		}
	}
	for section, objects := range history {
		j[section] = objects
	}
	j["local"] = here
	return j
}

func showState(w io.Writer, r offline.Rebuilt, j map[string]any) {
	fmt.Fprintf(w, "seq     %d (entry %d, %s)\ngrid    %s\nlevel   %d\ndigest  %s\nlocal   %s\nchain   %s\nfrom    %s\n\n",
		r.State.Seq(), r.Index, committedWord(r.Committed), dash(r.State.GridID()), r.State.Level(), j["digest"], j["local_digest"], j["chain"], fromWord(r.From))
	var lines [][]any
	for o := range r.State.Objects() {
		text, err := json.Marshal(offline.Plain(o.Value))
		if err != nil {
			text = []byte(err.Error())
		}
		lines = append(lines, []any{o.Section, dash(o.Key), string(text)})
	}
	rows(w, []any{"SECTION", "KEY", "OBJECT"}, lines)
}

func committedWord(yes bool) string {
	if yes {
		return "committed"
	}
	return "not known to be committed"
}

func fromWord(snapshot string) string {
	if snapshot == "" {
		return "the beginning of the log"
	}
	return snapshot
}
