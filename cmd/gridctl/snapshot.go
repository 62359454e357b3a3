package main

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/master/offline"
)

// The JSON of `gridctl snapshot inspect` and `verify`.
type (
	snapshotJSON struct {
		Path        string            `json:"path"`
		Index       uint64            `json:"index"`
		Seq         uint64            `json:"seq"`
		Time        string            `json:"time"`
		Level       uint32            `json:"level"`
		Digest      string            `json:"digest"`
		LocalDigest string            `json:"local_digest"`
		Chain       string            `json:"chain"`
		Sections    []offline.Section `json:"sections"`
		OutboxFirst uint64            `json:"outbox_first"`
		OutboxLast  uint64            `json:"outbox_last"`
		OutboxBytes uint64            `json:"outbox_bytes"`
	}
	verdictJSON struct {
		Path     string   `json:"path"`
		OK       bool     `json:"ok"`
		Problems []string `json:"problems,omitempty"`
	}
)

func snapshotCommand(out *printer) *cli.Command {
	const paths = "FILE-OR-DIR…"
	return &cli.Command{Name: "snapshot", Usage: "snapshots of the masters' state, as files", Subcommands: []*cli.Command{
		{Name: "inspect", Usage: "what is in a snapshot, with both digests computed again and compared", ArgsUsage: paths,
			Action: func(c *cli.Context) error {
				return eachSnapshot(c, func(path string) error { return inspectSnapshot(out, path) })
			}},
		{Name: "verify", Usage: "check every byte of a snapshot; status 1 when one is wrong", ArgsUsage: paths,
			Action: func(c *cli.Context) error { return verifySnapshots(c, out) }},
		{Name: "diff", Usage: "the objects in which two snapshots differ; status 1 when there are any", ArgsUsage: "A B",
			Action: func(c *cli.Context) error { return diffSnapshots(c, out) }},
	}}
}

// eachSnapshot calls do for every snapshot that the arguments mean.
func eachSnapshot(c *cli.Context, do func(path string) error) error {
	if c.NArg() == 0 {
		return usagef("snapshot %s takes at least one file or directory", c.Command.Name)
	}
	for _, arg := range c.Args().Slice() {
		found, err := offline.FindSnapshots(arg)
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := do(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func inspectSnapshot(out *printer, path string) error {
	s, err := offline.ReadSnapshot(path)
	if err != nil {
		return err
	}
	digest, local, chain := s.State.Digest(), s.State.LocalDigest(), s.State.Chain()
	j := snapshotJSON{
		Path: s.Path, Index: s.Index, Seq: s.State.Seq(), Time: offlineTime(s.Time), Level: s.Level, Sections: s.Sections(),
		Digest: hex.EncodeToString(digest[:]), LocalDigest: hex.EncodeToString(local[:]), Chain: hex.EncodeToString(chain[:]),
		OutboxFirst: s.Outbox.First, OutboxLast: s.Outbox.Last, OutboxBytes: s.Outbox.Bytes,
	}
	return out.show(j, func(w io.Writer) {
		fmt.Fprintf(w, "snapshot  %s\nindex     %d\nseq       %d\ntime      %s\nlevel     %d\ndigest    %s (as recorded)\nlocal     %s (as recorded)\nchain     %s\noutbox    events %d to %d, %d bytes\n\n",
			j.Path, j.Index, j.Seq, j.Time, j.Level, j.Digest, j.LocalDigest, j.Chain, j.OutboxFirst, j.OutboxLast, j.OutboxBytes)
		var lines [][]any
		for _, s := range j.Sections {
			lines = append(lines, []any{s.Name, s.Objects, s.Bytes})
		}
		rows(w, []any{"SECTION", "OBJECTS", "BYTES"}, lines)
	})
}

func verifySnapshots(c *cli.Context, out *printer) error {
	bad := false
	err := eachSnapshot(c, func(path string) error {
		v := verdictJSON{Path: path, OK: true}
		line := path + ": ok"
		for i, p := range offline.VerifySnapshot(path) {
			if v.OK = false; i == 0 {
				line = ""
			} else {
				line += "\n"
			}
			v.Problems = append(v.Problems, oneLine(p.Error()))
			line += "DAMAGED " + oneLine(p.Error())
		}
		bad = bad || !v.OK
		return out.each(v, line)
	})
	if err == nil && bad {
		return statusError(exitFailed)
	}
	return err
}

func diffSnapshots(c *cli.Context, out *printer) error {
	if c.NArg() != 2 {
		return usagef("snapshot diff takes two files or directories, not %d", c.NArg())
	}
	var both [2]*offline.Snapshot
	for i, arg := range c.Args().Slice() {
		found, err := offline.FindSnapshots(arg)
		if err != nil {
			return err
		}
		if both[i], err = offline.ReadSnapshot(found[0]); err != nil { // the newest
			return err
		}
	}
	all := offline.Diff(both[0].State, both[1].State)
	if err := out.show(all, func(w io.Writer) { showDifferences(w, all) }); err != nil {
		return err
	}
	if len(all) > 0 {
		return statusError(exitFailed)
	}
	return nil
}
