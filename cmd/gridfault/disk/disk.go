// Package disk is disks that forget: of the files below a directory they know what has been synced, and when the power goes nothing else
// comes back.
//
//	processes --write--> files below Root, real ones       Disk: names of each directory, content of each file, as last synced
//	    \--fault.Synced---------------------------------->    PowerOff: that, and a part of the rest;  PowerOn: Root holds it
//
// It is as strict as POSIX lets a disk be: a file's content is there when the file was synced, its name when the directory was, and neither
// brings the other. (ext4 writes names down with any sync, so that a directory that is not synced is never missed there.) What was not
// synced may be there in part: of a file its first sectors, of a directory all new names or none.
//
// Invariants: what was synced before PowerOff is there behind PowerOn; what is synced between them is not. The process that has synced
// goes on when the disk knows of it, so nothing comes back that was written behind a sync which does not.
//
// What it cannot show: a file that a library syncs in steps of its own (bbolt's) is told of as a whole, and comes back as the last
// transaction left it. Locks are not files' content. The package imports nothing of ours.
package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is one machine's disk. It implements fault.Disk.
type Disk struct {
	root string
	home inode // of root

	mu    sync.Mutex
	files table[*file]            // guarded by mu; what was synced, by file: its names come and go
	names table[map[string]entry] // guarded by mu; names that were synced, by directory
	image *node                   // guarded by mu; not nil: the power is off, and this comes back
	first error                   // guarded by mu; of what was synced and could not be read
}

// inode is a file or a directory, whatever it is called; with its birth, as numbers are used again.
type inode struct{ number, born uint64 }

// table is what is known of some inodes. It is no map: how much memory a map takes depends on its keys, these are others each time, and where
// all else lies in memory must not be (package bubble, Repeats).
type table[V any] []row[V]

// row is one of them; they are in the order of their inodes.
type row[V any] struct {
	of inode
	is V
}

func (t table[V]) find(i inode) (at int, found bool) {
	return slices.BinarySearchFunc(t, i, func(r row[V], i inode) int {
		return cmp.Or(cmp.Compare(r.of.number, i.number), cmp.Compare(r.of.born, i.born))
	})
}

func (t table[V]) get(i inode) (is V, found bool) {
	at, found := t.find(i)
	if found {
		is = t[at].is
	}
	return is, found
}

func (t *table[V]) set(i inode, is V) {
	at, found := t.find(i)
	if !found {
		*t = slices.Insert(*t, at, row[V]{of: i})
	}
	(*t)[at].is = is
}

// entry is what a name is of.
type entry struct {
	inode
	dir bool
}

// file is the content of a file that was synced.
type file struct {
	data  []byte
	whole bool // it was last told of as a whole
}

// New makes the disk of a directory that is there and empty.
func New(root string) (*Disk, error) {
	home, err := look(root)
	if err != nil {
		return nil, err
	}
	return &Disk{root: root, home: home.inode}, nil
}

// Root is the directory.
func (d *Disk) Root() string { return d.root }

// look finds out what a name is of.
func look(path string) (entry, error) {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_BTIME, &s); err != nil {
		return entry{}, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return entry{inode{s.Ino, uint64(s.Btime.Sec)*uint64(time.Second) + uint64(s.Btime.Nsec)}, s.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// list is a directory's names.
func list(dir string) (map[string]entry, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make(map[string]entry, len(all))
	for _, a := range all {
		e, err := look(filepath.Join(dir, a.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			return nil, err
		}
		names[a.Name()] = e
	}
	return names, nil
}

// Synced implements fault.Disk.
func (d *Disk) Synced(path string, from, to int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image != nil {
		return // the process does not know yet that it has ended
	}
	if err := d.syncedLocked(path, from, to); err != nil && d.first == nil {
		d.first = fmt.Errorf("a disk was told of a sync: %w", err)
	}
}

func (d *Disk) syncedLocked(path string, from, to int64) error {
	e, err := look(path)
	if err != nil {
		return err
	}
	if e.dir {
		names, err := list(path)
		d.names.set(e.inode, names)
		return err
	}
	f, known := d.files.get(e.inode)
	if !known {
		f = &file{}
		d.files.set(e.inode, f)
	}
	if f.whole = to == 0; f.whole {
		f.data, err = os.ReadFile(path)
		return err
	}
	return f.read(path, from, to)
}

// read takes a part of a file over, up to its end.
func (f *file) read(path string, from, to int64) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close() // read only
	stat, err := r.Stat()
	if err != nil {
		return err
	}
	size := stat.Size()
	if to = min(to, size); int64(len(f.data)) != size {
		grown := make([]byte, size)
		copy(grown, f.data)
		f.data = grown
	}
	if from >= to {
		return nil
	}
	_, err = io.ReadFull(io.NewSectionReader(r, from, to-from), f.data[from:to])
	return err
}
