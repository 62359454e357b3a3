package processes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sutra-grid/sutra-grid/cmd/gridfault/rig"
)

// lacking finds out what this machine, or these programs, cannot do, with the reason. Namespaces and mounts are tried for good when the
// machines are made.
func lacking(cfg Config) map[rig.Need]string {
	lacks := map[rig.Need]string{}
	note := func(n rig.Need, err error) {
		if err != nil {
			lacks[n] = err.Error()
		}
	}
	plain := error(nil)
	if cfg.Plain {
		plain = errors.New("plain processes were asked for")
	}
	note(rig.NeedNetns, errors.Join(plain, tools("ip"), root()))
	note(rig.NeedNft, errors.Join(plain, tools("ip", "nft"), root()))
	note(rig.NeedMount, errors.Join(plain, tools("mkfs.ext4", "mount"), root(), exists("/dev/loop-control")))
	note(rig.NeedClock, errors.Join(onAmd64(), root()))
	_, err := findGroups()
	note(rig.NeedCgroup, errors.Join(plain, err))
	note(rig.NeedFaults, withFaults(filepath.Join(cfg.Programs, "gridmaster")))
	return lacks
}

func root() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	return nil
}

func exists(path string) error { _, err := os.Stat(path); return err }

func tools(names ...string) error {
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			return fmt.Errorf("no program %s", n)
		}
	}
	return nil
}

func onAmd64() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("clocks are bent on amd64 only, this is %s", runtime.GOARCH)
	}
	return nil
}

// withFaults tells whether a program has fault points: only then it knows the variable that arms them.
func withFaults(path string) error {
	b, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(b, []byte("GRID_FAULT_FILE")) {
		err = fmt.Errorf("%s was built without -tags faults", path)
	}
	return err
}

// tool runs a program of the system.
func tool(name string, args ...string) error { _, err := toolWith("", name, args...); return err }

// toolWith gives it something to read and returns what it prints.
func toolWith(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
