package datadir

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func masterIdentity() Identity {
	return Identity{
		GridID:      "0b7c6f0e-2f1b-4a53-9d3f-8f3a7a3a1d11",
		Incarnation: event.Incarnation{N: 3, Random: [8]byte{1, 2, 3, 4, 5, 6, 7, 0xff}},
		Kind:        KindMaster, ID: "master-1", StoreID: "000102030405060708090a0b0c0d0e0f",
	}
}

func TestIdentityIsWrittenOnceAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d, err := Create(path, masterIdentity())
	if err != nil {
		t.Fatal(err)
	}
	want := masterIdentity()
	want.Format = Format
	if got, ok := d.Identity(); !ok || got != want {
		t.Fatalf("identity %+v, %v, want %+v", got, ok, want)
	}
	if err := d.SetIdentity(masterIdentity()); err == nil {
		t.Fatal("an identity was replaced")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	d, err = Open(path, KindMaster, "master-1")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, ok := d.Identity(); !ok || got != want {
		t.Fatalf("read back %+v, %v, want %+v", got, ok, want)
	}
	if got := d.Path("raft", "wal"); got != filepath.Join(path, "raft", "wal") {
		t.Fatalf("path %s", got)
	}
}

// The format is read by later versions.
func TestIdentityGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/IDENTITY")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	id := masterIdentity()
	id.Format = Format
	if err := writeIdentity(dir, id); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, identityName))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("IDENTITY is\n%s\nwant\n%s", got, want)
	}
	if back, err := decodeIdentity(want); err != nil || back != id {
		t.Fatalf("decoded %+v, %v", back, err)
	}
}

func TestDamagedIdentityIsRefused(t *testing.T) {
	golden, err := os.ReadFile("testdata/IDENTITY")
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		changed := strings.Replace(string(golden), old, new, 1)
		if changed == string(golden) {
			t.Fatalf("%q is not in the golden file", old)
		}
		return changed
	}
	for name, tc := range map[string]struct{ text, want string }{
		"empty":          {"", "unexpected end"},
		"newer format":   {replace(`"format": 1`, `"format": 2`), "format 2"},
		"unknown field":  {replace(`"kind"`, `"genus"`), "unknown field"},
		"short random":   {replace("01020304050607ff", "0102"), "16 hexadecimal digits"},
		"not hex":        {replace("01020304050607ff", "zz020304050607ff"), "16 hexadecimal digits"},
		"missing id":     {replace("master-1", ""), "missing"},
		"missing format": {replace(`"format": 1,`, ""), "format 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, identityName), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, KindMaster, "master-1")
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("got %v, want one that names %s and says %q", err, dir, tc.want)
			}
		})
	}
}

func TestOpenRefusesAnotherOwner(t *testing.T) {
	dir := t.TempDir()
	d, err := Create(dir, masterIdentity())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, other := range []struct {
		kind Kind
		id   string
	}{{KindMaster, "master-2"}, {KindNode, "master-1"}} {
		_, err := Open(dir, other.kind, other.id)
		if err == nil || !strings.Contains(err.Error(), "master master-1") || !strings.Contains(err.Error(), string(other.kind)+" "+other.id) {
			t.Errorf("open as %s %s: %v, want both sides named", other.kind, other.id, err)
		}
	}
	if d, err = Open(dir, KindMaster, "master-1"); err != nil {
		t.Fatalf("a refused open kept the lock: %v", err)
	}
	d.Close()
}

func TestOpenMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if _, err := Open(dir, KindNode, "node-1"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Fatalf("got %v", err)
	}
	if ok, err := Exists(dir); ok || err != nil {
		t.Fatalf("open made the directory (%v, %v)", ok, err)
	}
	empty := t.TempDir()
	if _, err := Open(empty, KindNode, "node-1"); err == nil || !strings.Contains(err.Error(), "no IDENTITY") {
		t.Fatalf("emptied directory: got %v", err)
	}
}

func TestHeldLockNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	d, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	if want := "in use by process " + strconv.Itoa(os.Getpid()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("got %v, want %q", err, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Lock(dir)
	if err != nil {
		t.Fatalf("the lock outlived Close: %v", err)
	}
	d.Close()
}

// A lock of a process that was killed does not stay.
func TestLockEndsWithTheProcess(t *testing.T) {
	if dir := os.Getenv("DATADIR_TEST_HOLD"); dir != "" {
		if _, err := Lock(dir); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithTheProcess$")
	child.Env = append(os.Environ(), "DATADIR_TEST_HOLD="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), strconv.Itoa(child.Process.Pid)) {
		t.Errorf("while the child lives: %v, want its pid %d", err, child.Process.Pid)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	d, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestUnusableDirectoryIsOneClearLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{"a file": file, "below a file": filepath.Join(file, "x")}
	if os.Getuid() != 0 { // root may write everywhere
		locked := t.TempDir()
		if err := os.Chmod(locked, 0o555); err != nil {
			t.Fatal(err)
		}
		cases["not writable"], cases["parent not writable"] = locked, filepath.Join(locked, "x")
	}
	for name, dir := range cases {
		_, err := Lock(dir)
		if err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line that names %s", name, err, dir)
		}
	}
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"first", "second, longer", "3"} {
		if err := WriteFileAtomic(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("read %q, %v, want %q", got, err, text)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	// What a crash left in the way is overwritten, and a failed write leaves the old content and no remains.
	if err := os.WriteFile(path+tmpSuffix, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileAtomic(path, []byte("after"), 0o600); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(dir, "dir")
	if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileAtomic(blocked, []byte("x"), 0o600); err == nil {
		t.Fatal("a file replaced a directory")
	}
	if _, err := os.Stat(blocked + tmpSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("remains of a failed write: %v", err)
	}
}

func TestEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	check := func(want bool) {
		t.Helper()
		if got, err := Empty(dir); err != nil || got != want {
			t.Fatalf("empty = %v, %v, want %v", got, err, want)
		}
	}
	check(true)
	d, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	check(true)
	if err := os.WriteFile(filepath.Join(dir, identityName+tmpSuffix), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check(true)
	if err := d.SetIdentity(masterIdentity()); err != nil {
		t.Fatal(err)
	}
	check(false)
}

func TestStoreIDsDiffer(t *testing.T) {
	a, b := NewStoreID(), NewStoreID()
	if len(a) != 32 || a == b {
		t.Fatalf("%s, %s", a, b)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	golden, err := os.ReadFile("testdata/IDENTITY")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := decodeIdentity(data)
		if err == nil && (id.Kind == "" || id.ID == "" || id.StoreID == "" || id.Format != Format) {
			t.Fatalf("accepted %+v", id)
		}
	})
}
