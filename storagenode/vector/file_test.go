package vector

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

func sampleOptions() Options {
	return Options{Dimension: 5, M: 2, EFConstruction: 10, Seed: 7, Workers: 1}
}

// sample is a small index with everything that a file can hold: several layers, a released slot.
func sample(t testing.TB) (*Index, table) {
	t.Helper()
	x := newIndex(t, sampleOptions())
	m := grow(t, x, 20, 5, 11)
	changes := []Change{{ID: "v3"}, {"é", []float32{0, -1, 0, 0.5, 0}}}
	must(t, x.Apply(99, changes))
	m.apply(changes)
	if x.entryPoint().level == 0 {
		t.Fatal("the sample has one layer only")
	}
	return x, m
}

func written(t testing.TB, x *Index) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := x.WriteTo(&b)
	must(t, err)
	if n != int64(b.Len()) {
		t.Fatalf("%d bytes written, %d answered", b.Len(), n)
	}
	return b.Bytes()
}

// TestGoldenFile: a released format never changes; a difference here is a file that this version cannot read. (A build that chooses
// neighbours otherwise changes the bytes too: then only the reading below must hold, and the file stays.)
func TestGoldenFile(t *testing.T) {
	x, m := sample(t)
	path := filepath.Join("testdata", "index.hex")
	if *rewrite {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(hex.EncodeToString(written(t, x))+"\n"), 0o644))
	}
	text, err := os.ReadFile(path)
	must(t, err)
	file, err := hex.DecodeString(strings.TrimSpace(string(text)))
	must(t, err)
	read, err := Read(bytes.NewReader(file), sampleOptions())
	must(t, err)
	sound(t, read, m)
	if read.Applied() != 99 || !bytes.Equal(written(t, read), file) {
		t.Fatalf("the golden file is read at %d and written otherwise", read.Applied())
	}
}

// TestReadIsWhatWasWritten: what is read is written again as the same bytes, and goes on as the original does.
func TestReadIsWhatWasWritten(t *testing.T) {
	o := Options{Dimension: 400, EFConstruction: 8}
	x := newIndex(t, o)
	m := grow(t, x, 700, 400, 2) // several blocks
	file := written(t, x)
	y, err := Read(bytes.NewReader(file), o)
	must(t, err)
	sound(t, y, m)
	r := rand.New(rand.NewPCG(4, 4))
	var changes []Change
	for i := range 200 {
		changes = append(changes, Change{ID: fmt.Sprint("v", i)}, Change{fmt.Sprint("w", i), random(r, 400)})
	}
	must(t, x.Apply(2, changes))
	must(t, y.Apply(2, changes))
	m.apply(changes)
	sound(t, y, m)
	if !bytes.Equal(written(t, x), written(t, y)) {
		t.Fatal("the index that was read goes on otherwise")
	}
}

func damaged(t testing.TB, file []byte) *DamagedError {
	t.Helper()
	_, err := Read(bytes.NewReader(file), sampleOptions())
	var d *DamagedError
	if !errors.As(err, &d) {
		return nil
	}
	if d.Offset < 0 || d.Offset > int64(len(file)) {
		t.Fatalf("%d bytes are damaged at %d: %v", len(file), d.Offset, err)
	}
	return d
}

func TestDamageIsFound(t *testing.T) {
	x, _ := sample(t)
	file := written(t, x)
	for n := range file {
		if d := damaged(t, file[:n]); d == nil || d.Offset != int64(n) {
			t.Fatalf("cut off at %d of %d: %v", n, len(file), d)
		}
	}
	for n := range 8 * len(file) {
		flipped := bytes.Clone(file)
		flipped[n/8] ^= 1 << (n % 8)
		if damaged(t, flipped) == nil {
			t.Fatalf("bit %d of byte %d was flipped, and nobody saw it", n%8, n/8)
		}
	}
	if d := damaged(t, append(bytes.Clone(file), 0)); d == nil || d.Offset != int64(len(file)) {
		t.Fatalf("a byte behind the end: %v", d)
	}
}

// blocks cuts a file in its start and its blocks, frames included.
func blocks(file []byte) (parts [][]byte) {
	start := len(fileMagic) + 1
	parts = append(parts, file[:start])
	for rest := file[start:]; len(rest) > 0; {
		n := 8 + int(binary.LittleEndian.Uint32(rest))
		parts = append(parts, rest[:n])
		rest = rest[n:]
	}
	return parts
}

// TestBlocksBelongTogether: whole blocks, each with a sum that is right where it comes from.
func TestBlocksBelongTogether(t *testing.T) {
	serial(t)
	o := Options{Dimension: 400, EFConstruction: 8}
	x := newIndex(t, o)
	m := grow(t, x, 1500, 400, 2)
	old := blocks(written(t, x))
	must(t, x.Apply(2, []Change{{ID: "v1499"}}))
	delete(m, "v1499")
	now := blocks(written(t, x))
	if len(now) < 5 {
		t.Fatalf("only %d blocks", len(now))
	}
	join := func(parts ...[]byte) io.Reader { return bytes.NewReader(bytes.Join(parts, nil)) }
	for name, r := range map[string]io.Reader{
		"one is missing":             join(now[0], now[1], now[3], now[4], bytes.Join(now[5:], nil)),
		"two changed places":         join(now[0], now[1], now[3], now[2], bytes.Join(now[4:], nil)),
		"one is of an older file":    join(now[0], now[1], old[2], bytes.Join(now[3:], nil)),
		"the header is of an older":  join(now[0], old[1], bytes.Join(now[2:], nil)),
		"the rest is of an older":    join(now[0], now[1], now[2], bytes.Join(old[3:], nil)),
		"the end comes after one":    join(now[0], now[1], now[2], now[len(now)-1]),
		"a block is there two times": join(now[0], now[1], now[2], bytes.Join(now[2:], nil)),
	} {
		var d *DamagedError
		if _, err := Read(r, o); !errors.As(err, &d) {
			t.Errorf("%s: %v", name, err)
		}
	}
	y, err := Read(join(now...), o)
	must(t, err)
	sound(t, y, m)
}

func TestOtherOptionsAreRefused(t *testing.T) {
	x, _ := sample(t)
	file := written(t, x)
	for name, change := range map[string]func(*Options){
		"dimension": func(o *Options) { o.Dimension++ }, "M": func(o *Options) { o.M++ },
		"candidates": func(o *Options) { o.EFConstruction++ }, "seed": func(o *Options) { o.Seed++ },
	} {
		o := sampleOptions()
		change(&o)
		var other *OptionsError
		if _, err := Read(bytes.NewReader(file), o); !errors.As(err, &other) || other.Want != o || other.File != sampleOptions() {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := sampleOptions()
	o.Workers = 3
	_, err := Read(bytes.NewReader(file), o)
	must(t, err)
}

// forge puts bodies into a file whose sums are right.
func forge(bodies ...[]byte) []byte {
	file := append([]byte(fileMagic), fileVersion)
	sum := crc32.Update(0, castagnoli(), file)
	for _, b := range append(bodies, nil) {
		sum = crc32.Update(sum, castagnoli(), b)
		file = append(binary.LittleEndian.AppendUint32(file, uint32(len(b))), b...)
		file = binary.LittleEndian.AppendUint32(file, sum)
	}
	return file
}

// bodies of a file.
func bodies(file []byte) (b [][]byte) {
	for _, block := range blocks(file)[1:] {
		b = append(b, block[4:len(block)-4])
	}
	return b[:len(b)-1]
}

// TestClaimsAllocateNothing: lengths that are not backed by bytes cost no memory.
func TestClaimsAllocateNothing(t *testing.T) {
	x, _ := sample(t)
	head := bodies(written(t, x))[0]
	claim := bytes.Clone(head)
	binary.LittleEndian.PutUint32(claim[28:], 1<<31)
	start := append([]byte(fileMagic), fileVersion)
	for name, file := range map[string][]byte{
		"vectors":     forge(claim),
		"a block":     binary.LittleEndian.AppendUint32(start, 1<<31),
		"an id":       forge(head, binary.AppendUvarint(nil, 1<<40)),
		"layers":      forge(head, binary.AppendUvarint([]byte{1, 'a'}, 1<<20)),
		"no vector":   forge(head, []byte{1, 'a', 0, 0, 1}),
		"its numbers": forge(head, bytes.Repeat([]byte{0xff}, 100)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d := damaged(t, file)
		runtime.ReadMemStats(&after)
		if d == nil || after.TotalAlloc-before.TotalAlloc > 2<<20 {
			t.Errorf("%s: %v after %d bytes", name, d, after.TotalAlloc-before.TotalAlloc)
		}
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vectors")
	x, m := sample(t)
	if _, err := Load(vfs.Default, path, sampleOptions()); !oserror.IsNotExist(err) || !strings.Contains(err.Error(), path) {
		t.Fatalf("no file: %v", err)
	}
	for range 2 { // the second time in place of the first
		applied, err := x.Save(vfs.Default, path)
		must(t, err)
		if applied != x.Applied() {
			t.Fatalf("saved at %d, not %d", applied, x.Applied())
		}
		y, err := Load(vfs.Default, path, sampleOptions())
		must(t, err)
		sound(t, y, m)
		must(t, x.Apply(x.Applied()+1, []Change{{ID: "v0"}}))
		delete(m, "v0")
	}
	must(t, os.WriteFile(path, []byte("nothing"), 0o644))
	var d *DamagedError
	if _, err := Load(vfs.Default, path, sampleOptions()); !errors.As(err, &d) || !strings.Contains(err.Error(), path) {
		t.Fatalf("a damaged file: %v", err)
	}
	if _, err := x.Save(vfs.Default, filepath.Join(path, "below a file")); err == nil {
		t.Fatal("saved where no file can be")
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Fatalf("left behind: %v, %v", names, err)
	}
}

// failingFS fails its nth step of those that change something, and all after it, and then the machine crashes.
type failingFS struct {
	vfs.FS
	left *int
}

type failingFile struct {
	vfs.File
	fs *failingFS
}

var errDisk = errors.New("disk")

func (f *failingFS) step() error {
	if *f.left--; *f.left < 0 {
		return errDisk
	}
	return nil
}

func (f *failingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return &failingFile{file, f}, err
}

func (f *failingFS) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failingFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return &failingFile{file, f}, err
}

func (f *failingFile) Write(b []byte) (int, error) {
	if err := f.fs.step(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *failingFile) Sync() error {
	if err := f.fs.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

// TestCrashDuringSave: whichever step of a Save fails, and whatever the disk had not synced is lost: the file is the old or
// the new one, whole, and the new one when Save said so.
func TestCrashDuringSave(t *testing.T) {
	x, _ := sample(t)
	for n := 0; ; n++ {
		disk := vfs.NewCrashableMem()
		must(t, disk.MkdirAll("d", 0o755))
		root, err := disk.OpenDir("/")
		must(t, errors.Join(err, root.Sync()))
		old, err := x.Save(disk, "d/vectors")
		must(t, err)
		must(t, x.Apply(old+1, nil))
		left := n
		saved, failed := x.Save(&failingFS{disk, &left}, "d/vectors")
		for _, unsynced := range []int{0, 100} { // per cent of what was not synced that is there after the crash
			after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, 1))})
			y, err := Load(after, "d/vectors", sampleOptions())
			must(t, err)
			if y.Applied() != old && y.Applied() != old+1 || failed == nil && y.Applied() != saved {
				t.Fatalf("step %d (%v): loaded at %d, before %d, saved %d", n, failed, y.Applied(), old, saved)
			}
		}
		if failed == nil {
			if n < 5 {
				t.Fatalf("only %d steps of a Save were seen", n)
			}
			return
		}
	}
}

// FuzzRead: no bytes make it panic, hang or build what breaks an invariant; what is read is written and read again.
func FuzzRead(f *testing.F) {
	x, _ := sample(f)
	for _, b := range bodies(written(f, x)) {
		f.Add(b)
	}
	empty := newIndex(f, sampleOptions())
	head := bodies(written(f, x))[0]
	f.Add(written(f, empty))
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, file := range [][]byte{b, forge(b), forge(head, b)} {
			y, err := Read(bytes.NewReader(file), sampleOptions())
			if err != nil {
				continue
			}
			must(t, y.Apply(y.Applied(), []Change{{"new", []float32{1, 2, 3, 4, 5}}, {ID: "v7"}}))
			if _, err := Read(bytes.NewReader(written(t, y)), sampleOptions()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
