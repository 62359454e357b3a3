package disk

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// sectorBytes is what a disk writes as a whole.
const sectorBytes = 512

// pageSectors is how many sectors are written in any order; earlier ones are there already.
const pageSectors = 8

// node is a file or a directory that comes back.
type node struct {
	names map[string]*node // nil: it is a file
	data  []byte
}

// present is what there is when the power goes: by inode, as a synced name may be of something that is called otherwise now.
type present struct {
	names table[map[string]entry]
	paths table[string] // of files
}

// Loss is what a power loss has taken.
type Loss struct {
	Names int   // of files and directories that are not there, or are there again
	Bytes int64 // of files that are there, and of those that are not, that are others now
}

// Add adds another disk's.
func (l *Loss) Add(o Loss) { l.Names, l.Bytes = l.Names+o.Names, l.Bytes+o.Bytes }

// PowerOff takes the power away, and tells what that costs. Processes may still write; nothing of it counts. Of what was not synced a
// part comes back with the given chance: of each directory's new names, and of the content of each file. With 0 no dice are needed.
func (d *Disk) PowerOff(chance float64, rng *rand.Rand) (Loss, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image != nil {
		return Loss{}, errors.New("the power is off already")
	}
	if d.first != nil {
		return Loss{}, d.first
	}
	now := present{}
	if err := now.walk(d.root, d.home); err != nil {
		return Loss{}, err
	}
	p := power{d, &now, chance, rng}
	image, err := p.comesBack(entry{d.home, true})
	if err != nil {
		return Loss{}, err
	}
	d.image = image
	return now.lost(entry{d.home, true}, image)
}

// walk looks at a directory and what is below it. What goes away meanwhile is not there.
func (p *present) walk(path string, at inode) error {
	names, err := list(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.names.set(at, names)
	for name, e := range names {
		below := filepath.Join(path, name)
		if !e.dir {
			p.paths.set(e.inode, below)
			continue
		}
		if err := p.walk(below, e.inode); err != nil {
			return err
		}
	}
	return nil
}

// content is what a file holds now; nil when it has just gone.
func (p *present) content(at inode) ([]byte, error) {
	path, there := p.paths.get(at)
	if !there {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// power is one power loss.
type power struct {
	*Disk
	now    *present
	chance float64
	rng    *rand.Rand
}

// comesBack is what a file, or a directory with all below it, will be.
func (p *power) comesBack(e entry) (*node, error) {
	if !e.dir {
		data, err := p.content(e.inode)
		return &node{data: data}, err
	}
	names, _ := p.names.get(e.inode)
	if now, there := p.now.names.get(e.inode); there && p.chance > 0 && !maps.Equal(names, now) && p.rng.Float64() < p.chance {
		names = now
	}
	n := &node{names: map[string]*node{}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below, err := p.comesBack(names[name])
		if err != nil {
			return nil, err
		}
		n.names[name] = below
	}
	return n, nil
}

// content is what a file will hold.
func (p *power) content(at inode) ([]byte, error) {
	f, known := p.files.get(at)
	if !known {
		f = &file{}
	}
	if f.whole || p.chance == 0 {
		return f.data, nil
	}
	now, err := p.now.content(at)
	if err != nil || now == nil {
		return f.data, err
	}
	return p.mix(f.data, now), nil
}

// mix is a file that was being written when the power went: up to some place everything is there, around it some sectors are, and
// behind it none.
func (p *power) mix(synced, now []byte) []byte {
	var fresh []int // sectors that differ
	for at := 0; at < len(now); at += sectorBytes {
		if !same(synced, now, at) {
			fresh = append(fresh, at)
		}
	}
	if len(fresh) == 0 || p.rng.Float64() >= p.chance {
		return synced
	}
	out := make([]byte, max(len(synced), len(now)))
	copy(out, synced)
	whole := p.rng.IntN(len(fresh) + 1)
	for i, at := range fresh[:min(len(fresh), whole+pageSectors)] {
		if i < whole || p.rng.IntN(2) == 0 {
			copy(out[at:min(at+sectorBytes, len(now))], now[at:])
		}
	}
	return out
}

// same compares one sector; behind a file's end there are zeros.
func same(a, b []byte, at int) bool {
	for i := at; i < at+sectorBytes; i++ {
		if byteAt(a, i) != byteAt(b, i) {
			return false
		}
	}
	return true
}

func byteAt(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

// lost compares what there is with what will be.
func (p *present) lost(e entry, back *node) (l Loss, err error) {
	if !e.dir {
		data, err := p.content(e.inode)
		if err != nil {
			return l, err
		}
		var kept []byte
		if back != nil {
			kept = back.data
		}
		for i := range max(len(data), len(kept)) {
			if byteAt(data, i) != byteAt(kept, i) {
				l.Bytes++
			}
		}
		return l, nil
	}
	names, _ := p.names.get(e.inode)
	for name, below := range names {
		var n *node
		if back != nil {
			n = back.names[name]
		}
		if n == nil {
			l.Names++
		}
		more, err := p.lost(below, n)
		if err != nil {
			return l, err
		}
		l.Add(more)
	}
	if back == nil {
		return l, nil
	}
	for name := range back.names {
		if _, there := names[name]; !there {
			l.Names++
		}
	}
	return l, nil
}

// PowerOn puts back what was on the disk. All processes that used it have ended.
func (d *Disk) PowerOn() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image == nil {
		return errors.New("the power is on")
	}
	all, err := os.ReadDir(d.root)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := os.RemoveAll(filepath.Join(d.root, a.Name())); err != nil {
			return err
		}
	}
	d.files, d.names = nil, nil
	if err := d.put(d.root, d.image); err != nil {
		return err
	}
	d.image = nil
	return nil
}

// put makes a directory hold what it is to hold. That is on the disk.
func (d *Disk) put(dir string, n *node) error {
	for name, below := range n.names {
		path := filepath.Join(dir, name)
		if below.names != nil {
			err := os.Mkdir(path, 0o755)
			if err == nil {
				err = d.put(path, below)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := os.WriteFile(path, below.data, 0o644); err != nil {
			return err
		}
		e, err := look(path)
		if err != nil {
			return err
		}
		d.files.set(e.inode, &file{data: below.data, whole: true})
	}
	return d.syncedLocked(dir, 0, 0)
}
