package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/master/offline"
)

// markJSON is one line of `gridctl raft replay`.
type markJSON struct {
	Seq    uint64 `json:"seq"`
	Index  uint64 `json:"index"`
	Type   string `json:"type"`
	Digest string `json:"digest"`
	Chain  string `json:"chain"`
}

func raftReplay(out *printer) *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "replay a stopped master's log and print the state's digest behind each event", Flags: []cli.Flag{
			dataFlag(), &cli.Uint64Flag{Name: "every", Value: 1, Usage: "print every `N`th event only"},
		},
		Action: withMaster(func(c *cli.Context, m *offline.Master) error {
			every := c.Uint64("every")
			if every == 0 {
				return usagef("--every 0: want at least 1")
			}
			r, err := m.ReplayAll()
			if err != nil {
				return err
			}
			defer r.Close()
			return m.Marks(r, func(k offline.Mark) error {
				if k.Seq%every != 0 {
					return c.Context.Err()
				}
				j := markJSON{k.Seq, k.Index, k.Type.String(), hex.EncodeToString(k.Digest[:]), hex.EncodeToString(k.Chain[:])}
				return out.each(j, fmt.Sprintf("%8d  %8d  %-22s  %s  %s", j.Seq, j.Index, j.Type, j.Digest, j.Chain))
			})
		}),
	}
}

// The JSON of `gridctl raft bisect`.
type (
	findingJSON struct {
		Equal      bool                 `json:"equal"`
		What       string               `json:"what,omitempty"`
		Index      uint64               `json:"index,omitempty"`
		Seq        uint64               `json:"seq,omitempty"`
		Message    string               `json:"message,omitempty"`
		Wrong      string               `json:"wrong,omitempty"`
		A          *sideJSON            `json:"a,omitempty"`
		B          *sideJSON            `json:"b,omitempty"`
		Objects    []offline.Difference `json:"objects,omitempty"`
		From       uint64               `json:"from_index"`
		To         uint64               `json:"to_index"`
		EventsFrom uint64               `json:"from_seq"`
		EventsTo   uint64               `json:"to_seq"`
	}
	sideJSON struct {
		Term      uint64          `json:"term,omitempty"`
		Commands  []commandJSON   `json:"commands,omitempty"`
		Event     json.RawMessage `json:"event,omitempty"`
		Digest    string          `json:"digest,omitempty"`
		Committed bool            `json:"committed"`
	}
)

func raftBisect(out *printer) *cli.Command {
	return &cli.Command{
		Name: "bisect", Usage: "find where the histories of two stopped masters first differ", Flags: []cli.Flag{
			dataFlag(), &cli.StringFlag{Name: "with", Usage: "the data `DIR` of the other master"},
		},
		Action: withMaster(func(c *cli.Context, a *offline.Master) (err error) {
			if c.String("with") == "" {
				return usagef("raft bisect compares two directories: name the other with --with DIR")
			}
			b, err := offline.Open(c.String("with"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			f, err := offline.Bisect(a, b)
			if err != nil {
				return err
			}
			j := findingToJSON(f)
			if err := out.show(j, func(w io.Writer) { showFinding(w, j) }); err != nil {
				return err
			}
			if !j.Equal {
				return statusError(exitFailed)
			}
			return nil
		}),
	}
}

func findingToJSON(f offline.Finding) findingJSON {
	return findingJSON{
		Equal: f.What == "", What: f.What, Index: f.Index, Seq: f.Seq, Message: f.Message, Wrong: f.Wrong,
		A: sideToJSON(f.A), B: sideToJSON(f.B), Objects: f.Objects, From: f.From, To: f.To, EventsFrom: f.EventsFrom, EventsTo: f.EventsTo,
	}
}

func sideToJSON(s *offline.Side) *sideJSON {
	if s == nil {
		return nil
	}
	j := &sideJSON{Term: s.Term, Committed: s.Committed}
	if s.Digest != [32]byte{} {
		j.Digest = hex.EncodeToString(s.Digest[:])
	}
	for _, c := range s.Commands {
		j.Commands = append(j.Commands, commandToJSON(c))
	}
	if e, err := event.DecodeEnvelope(s.Event); err == nil {
		j.Event, _ = event.JSON(e) // what was decoded has a form
	}
	return j
}

func showFinding(w io.Writer, f findingJSON) {
	if f.Equal {
		fmt.Fprintf(w, "equal: entries %d to %d, recorded events %d to %d\n", f.From, f.To, f.EventsFrom, f.EventsTo)
		return
	}
	fmt.Fprintf(w, "first difference: %s\nentry  %d\nseq    %d\n", oneLine(f.Message), f.Index, f.Seq)
	if f.Wrong != "" {
		fmt.Fprintf(w, "wrong  %s\n", f.Wrong)
	}
	showSide(w, "a", f.A)
	showSide(w, "b", f.B)
	fmt.Fprintln(w)
	showDifferences(w, f.Objects)
}

func showSide(w io.Writer, name string, s *sideJSON) {
	if s == nil {
		return
	}
	for _, c := range s.Commands {
		fmt.Fprintf(w, "%s      command %s %s\n", name, c.Type, c.Body)
	}
	if s.Event != nil {
		fmt.Fprintf(w, "%s      event   %s\n", name, s.Event)
	}
}

func showDifferences(w io.Writer, all []offline.Difference) {
	var lines [][]any
	for _, d := range all {
		lines = append(lines, []any{d.Section, dash(d.Key), compact(d.A), compact(d.B)})
	}
	rows(w, []any{"SECTION", "KEY", "A", "B"}, lines)
}

// compact is an object on one line; what is absent is a dash.
func compact(v any) string {
	if v == nil {
		return "-"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
