package datadir

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// Kind says what sort of owner a directory has.
type Kind string

// The kinds of owners.
const (
	KindMaster Kind = "master"
	KindNode   Kind = "node"
	KindAgent  Kind = "agent"
)

// Format is the version of the directory's layout: the one this program writes, and the only one it reads.
const Format = 1

// Identity is the content of IDENTITY. GridID and Incarnation are zero for an owner that belongs to no grid.
type Identity struct {
	GridID      string
	Incarnation event.Incarnation
	Kind        Kind
	ID          string
	StoreID     string // NewStoreID, made together with the directory
	Format      int
}

// identityFile is IDENTITY as JSON; people read it.
type identityFile struct {
	Format      int    `json:"format"`
	GridID      string `json:"grid_id"`
	Incarnation uint64 `json:"incarnation"`
	Random      string `json:"incarnation_random"` // 16 hexadecimal digits
	Kind        Kind   `json:"kind"`
	ID          string `json:"id"`
	StoreID     string `json:"store_id"`
}

// NewStoreID is 16 random bytes as 32 hexadecimal digits.
func NewStoreID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func writeIdentity(dir string, id Identity) error {
	data, err := json.MarshalIndent(identityFile{
		Format: id.Format, GridID: id.GridID, Incarnation: id.Incarnation.N, Random: hex.EncodeToString(id.Incarnation.Random[:]),
		Kind: id.Kind, ID: id.ID, StoreID: id.StoreID,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", identityName, err)
	}
	return WriteFileAtomic(filepath.Join(dir, identityName), append(data, '\n'), 0o644)
}

func readIdentity(dir string) (Identity, bool, error) {
	path := filepath.Join(dir, identityName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("read %s: %w", path, rootCause(err))
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return Identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	return id, true, nil
}

func decodeIdentity(data []byte) (Identity, error) {
	// The format first: a later one may have other fields.
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Identity{}, err
	}
	if version.Format != Format {
		return Identity{}, fmt.Errorf("the directory has format %d, this program reads format %d; run the version that wrote it", version.Format, Format)
	}
	var f identityFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Identity{}, err
	}
	id := Identity{GridID: f.GridID, Kind: f.Kind, ID: f.ID, StoreID: f.StoreID, Format: f.Format}
	id.Incarnation.N = f.Incarnation
	if n, err := hex.Decode(id.Incarnation.Random[:], []byte(f.Random)[:min(len(f.Random), 16)]); err != nil || n != 8 || len(f.Random) != 16 {
		return Identity{}, fmt.Errorf("incarnation_random %q: want 16 hexadecimal digits", f.Random)
	}
	if id.Kind == "" || id.ID == "" || id.StoreID == "" {
		return Identity{}, errors.New("kind, id or store_id is missing")
	}
	return id, nil
}
