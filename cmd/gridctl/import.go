package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/sutra-grid/sutra-grid/client"
	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Limits of an import.
const (
	importBatch    = 1000             // records in one transaction; the protocol allows no more
	importBytes    = 4 << 20          // bytes of input in one transaction
	maxImportLine  = 12 << 20         // a line holds at most one concept of 10 MiB content
	batchDeadline  = 90 * time.Second // one transaction is retried this long: longer than any fail-over
	importDeadline = 24 * time.Hour
)

func importCommand(out *printer) *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "store the concepts and associations of an NDJSON file (- for standard input; .gz is unpacked)", ArgsUsage: "FILE[.gz]",
		Description: "Each line is {\"concept\":{\"id\",\"content\",\"attributes\",…}} or {\"association\":{\"source\",\"target\",\"type\",\"confidence\"}}.\n" +
			"An import that was broken off can be run again: records that are there already are stored again with the same result.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "on-error", Value: "stop", Usage: "what a broken line does: stop, or continue with the rest"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("import takes one FILE, not %d arguments", c.NArg())
			}
			policy := c.String("on-error")
			if policy != "stop" && policy != "continue" {
				return usagef("--on-error %q: want stop or continue", policy)
			}
			return runImport(c, out, policy == "continue")
		},
	}
}

func runImport(c *cli.Context, out *printer, goOn bool) error {
	file, err := openImport(c.Args().First())
	if err != nil {
		return err
	}
	defer file.Close()
	s, err := open(c, importDeadline)
	if err != nil {
		return err
	}
	defer s.close()
	store, err := s.store()
	if err != nil {
		return err
	}
	defer store.Close()
	im := &importer{session: s, store: store, types: map[string]uint32{}, goOn: goOn, progress: file.progress(out), started: time.Now()}
	im.report = func(line int, err error) {
		im.progress.Clear()
		fmt.Fprintf(out.errw, "gridctl: %s:%d: %s\n", file.name, line, oneLine(err.Error()))
	}
	err = im.run(s.ctx, file)
	im.progress.Finish()
	return im.finish(out, err)
}

// finish prints what was stored, whatever ended the import.
func (im *importer) finish(out *printer, err error) error {
	took := time.Since(im.started)
	rate := float64(im.concepts+im.associations) / max(took.Seconds(), 1e-3)
	result := map[string]any{"concepts": im.concepts, "associations": im.associations, "broken_lines": im.broken, "lines": im.lines,
		"seconds": took.Seconds(), "records_per_second": rate, "complete": err == nil}
	if err != nil {
		result["error"] = err.Error()
	}
	show := out.show(result, func(w io.Writer) {
		fmt.Fprintf(w, "%d concepts and %d associations stored in %.1f s (%.0f records/s)", im.concepts, im.associations, took.Seconds(), rate)
		if im.broken > 0 {
			fmt.Fprintf(w, ", %d broken lines", im.broken)
		}
		fmt.Fprintln(w)
	})
	switch {
	case err != nil && !errors.Is(err, errBroken):
		fmt.Fprintf(out.errw, "gridctl: import stopped before line %d: %s\n", im.lines+1, oneLine(err.Error()))
		return statusError(exitStatus(err))
	case im.broken > 0:
		return statusError(exitFailed)
	}
	return show
}

// importFile is the input with what the progress bar needs.
type importFile struct {
	name string
	file *os.File
	read *countingReader
	text io.Reader
	size int64
}

// countingReader counts the bytes taken from the file, before unpacking.
type countingReader struct {
	r io.Reader
	n int64
}

// Read reads from the file and counts.
func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func openImport(name string) (*importFile, error) {
	if name == "-" {
		r := &countingReader{r: os.Stdin}
		return &importFile{name: "standard input", file: os.Stdin, read: r, text: r}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	in := &importFile{name: name, file: f, read: &countingReader{r: f}}
	in.text = in.read
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		in.size = st.Size()
	}
	if strings.HasSuffix(name, ".gz") {
		if in.text, err = gzip.NewReader(in.read); err != nil {
			return nil, errors.Join(fmt.Errorf("%s is not a gzip file: %w", name, err), f.Close())
		}
	}
	return in, nil
}

// Close closes the file.
func (f *importFile) Close() error { return f.file.Close() }

// progress shows a bar on a terminal and nothing elsewhere.
func (f *importFile) progress(out *printer) *progress {
	st, err := os.Stderr.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 || out.errw != io.Writer(os.Stderr) || f.size == 0 {
		return &progress{}
	}
	bar := progressbar.NewOptions64(f.size, progressbar.OptionSetWriter(out.errw), progressbar.OptionShowBytes(true), progressbar.OptionSetDescription(f.name),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return &progress{bar: bar, file: f}
}

// progress is a bar, or nothing.
type progress struct {
	bar  *progressbar.ProgressBar
	file *importFile
}

func (p *progress) update() {
	if p.bar != nil {
		_ = p.bar.Set64(p.file.read.n) // a terminal that cannot be written to shows no bar
	}
}

// Clear makes room for a message.
func (p *progress) Clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

// Finish removes the bar.
func (p *progress) Finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// errBroken ends an import at a broken line under --on-error stop; the line has been reported.
var errBroken = errors.New("broken line")

// importer stores one file: records in file order, in transactions of one kind of record each, so that an association
// never overtakes its concepts and neighbours keep the order of the file.
type importer struct {
	session  *session
	store    *client.Client
	types    map[string]uint32
	goOn     bool
	report   func(line int, err error)
	progress *progress
	started  time.Time

	pending []record
	bytes   int

	lines, concepts, associations, broken int
}

func (im *importer) run(ctx context.Context, f *importFile) error {
	sc := bufio.NewScanner(f.text)
	sc.Buffer(make([]byte, 64<<10), maxImportLine)
	for line := 1; sc.Scan(); line++ {
		if len(strings.TrimSpace(sc.Text())) == 0 {
			continue
		}
		r, err := im.parse(line, sc.Bytes())
		if err != nil {
			if err := im.brokenLine(line, err); err != nil {
				return im.flushBefore(ctx, err)
			}
			continue
		}
		if err := im.add(ctx, r, len(sc.Bytes())); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return im.flushBefore(ctx, fmt.Errorf("read %s: %w", f.name, err))
	}
	return im.flush(ctx)
}

// flushBefore stores what stands before the place where the import ends, and gives the reason of the end; when storing
// fails, that is the reason.
func (im *importer) flushBefore(ctx context.Context, end error) error {
	if err := im.flush(ctx); err != nil && !errors.Is(err, errBroken) {
		return err
	}
	return end
}

// brokenLine reports a line and says whether to go on.
func (im *importer) brokenLine(line int, err error) error {
	var grid *event.Error
	if errors.As(err, &grid) && kindStatus(grid.Kind) == exitUnreachable {
		return err // not the line's fault
	}
	im.broken++
	im.report(line, err)
	if im.goOn {
		return nil
	}
	return errBroken
}

func (im *importer) add(ctx context.Context, r record, size int) error {
	if len(im.pending) > 0 && (im.pending[0].isConcept() != r.isConcept() || im.bytes+size > importBytes) {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.pending = append(im.pending, r)
	im.bytes += size
	if len(im.pending) < importBatch {
		return nil
	}
	return im.flush(ctx)
}
