package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want one argument, the directory to write to")
	}
	runtime, err := runtimeDir()
	if err != nil {
		return err
	}
	_, err = write(runtime, args[0])
	return err
}

// runtimeDir is where the source of the runtime is.
func runtimeDir() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src", "runtime"), nil
}

// edit puts a text in place of another one, the first behind an anchor that stands in the file once. An empty anchor is the file's beginning.
type edit struct {
	file        string
	anchor      string
	old, become string
}

// edits are what makes a bubble deterministic. Known to fit Go 1.26.
var edits = []edit{
	{ // all that is random begins the same in every process: hashes of maps, where the heap is
		"rand.go", "func randinit()", "\tglobalRand.state.Init(*seed)\n",
		"\tfor i := range seed {\n\t\tseed[i] = byte(i + 1)\n\t}\n\tglobalRand.state.Init(*seed)\n",
	},
	{ // the order of maps, math/rand: a sequence of the bubble's own, that nobody outside draws from
		"rand.go", "func rand() uint64", "\tmp := getg().m\n",
		"\tif getg().bubble != nil {\n\t\treturn uint64(bubbleRandn(1<<31))<<33 ^ uint64(bubbleRandn(1<<31))<<16 ^ uint64(bubbleRandn(1<<31))\n\t}\n\tmp := getg().m\n",
	},
	{ // which of several ready cases a select takes
		"select.go", "", "\t\tj := cheaprandn(uint32(norder + 1))\n",
		"\t\tvar j uint32\n\t\tif getg().bubble != nil {\n\t\t\tj = bubbleRandn(uint32(norder + 1))\n\t\t} else {\n\t\t\tj = cheaprandn(uint32(norder + 1))\n\t\t}\n",
	},
	{ // the order of timers that fire at the same moment of a bubble
		"time.go", "", "t.rand = cheaprand()", "t.rand = bubbleRandn(1 << 31)",
	},
	{ // where one thread runs and nothing is collected, as in children (not in their parent, which waits for them in system calls): no goroutine
		// is interrupted because its time is over, and none loses its place because it is in a system call
		"proc.go", "func sysmon()", "if retake(now) != 0 {", "if (gomaxprocs > 1 || gcController.gcPercent.Load() >= 0) && retake(now) != 0 {",
	},
	{ // once there is a bubble, it does not matter how many goroutines have run: what yields waits for all others, not for every 61st
		"proc.go", "func findRunnable()", "\tif pp.schedtick%61 == 0 && ", "\tif bubbleGen.Load() == 0 && pp.schedtick%61 == 0 && ",
	},
	{ // a mutex is handed over when somebody has waited long, by the bubble's clock
		"sema.go", "func internal_sync_nanotime() int64 {", "\treturn nanotime()\n",
		"\tif bubble := getg().bubble; bubble != nil {\n\t\treturn bubble.now\n\t}\n\treturn nanotime()\n",
	},
}

// bubbleRandn is added to rand.go. Package bubble calls bubbleSeed.
const bubbleRandn = `
var bubbleRand uint64

//go:linkname bubbleSeed
func bubbleSeed(seed uint64) { bubbleRand = seed }

// bubbleRandn is cheaprandn for bubbles.
//
//go:nosplit
func bubbleRandn(n uint32) uint32 {
	bubbleRand += 0xa0761d6478bd642f
	hi, lo := math.Mul64(bubbleRand, bubbleRand^0xe7037ed1a0b428db)
	return uint32((uint64(uint32(hi^lo)) * uint64(n)) >> 32)
}
`

// write makes the changed files of the runtime in dir, and the overlay that puts them in their places. It returns the overlay's path.
func write(runtime, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	texts := map[string]string{}
	for _, e := range edits {
		if _, read := texts[e.file]; !read {
			b, err := os.ReadFile(filepath.Join(runtime, e.file))
			if err != nil {
				return "", err
			}
			texts[e.file] = string(b)
		}
		if texts[e.file], err = e.apply(texts[e.file]); err != nil {
			return "", err
		}
	}
	texts["rand.go"] += bubbleRandn
	replace := map[string]string{}
	for name, text := range texts {
		path := filepath.Join(dir, name+".txt") // no package for ./...
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(runtime, name)] = path
	}
	b, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, append(b, '\n'), 0o644)
}

// apply makes the edit, or says that the runtime is not the one it is for.
func (e edit) apply(text string) (string, error) {
	at := 0
	if e.anchor != "" {
		if strings.Count(text, e.anchor) != 1 {
			return "", e.unknown(e.anchor)
		}
		at = strings.Index(text, e.anchor)
	}
	found := strings.Index(text[at:], e.old)
	if found < 0 || e.anchor == "" && strings.Count(text, e.old) != 1 {
		return "", e.unknown(e.old)
	}
	at += found
	return text[:at] + e.become + text[at+len(e.old):], nil
}

func (e edit) unknown(text string) error {
	return fmt.Errorf("the runtime's %s does not have %q, or not once: this overlay is not for this version of Go; compare the edits with its source", e.file, text)
}
