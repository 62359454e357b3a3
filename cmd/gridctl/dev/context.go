package dev

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// contextFile tells gridctl where the grid of this machine is, so that no flag is needed. It belongs to the development grid that was
// ready last.
type contextFile struct {
	path string
	text []byte
}

func newContextFile(l layout) (*contextFile, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(struct {
		Masters []string `yaml:"masters"`
		Events  string   `yaml:"events"`
	}{l.grids(), l.events})
	if err != nil {
		return nil, err
	}
	return &contextFile{path: filepath.Join(dir, "sutra-grid", "context.yaml"), text: text}, nil
}

func (f *contextFile) write() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return err
	}
	return datadir.WriteFileAtomic(f.path, f.text, 0o644)
}

// remove removes the file unless it is another grid's by now.
func (f *contextFile) remove() error {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(text, f.text) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeFile(f.path)
}
