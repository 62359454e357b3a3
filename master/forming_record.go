package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
)

// formingFile is the record's name in the data directory. It stays when the grid is formed: it says what the grid began
// with, and that the stores must exist.
const formingFile = "formation.json"

// formingRecord is how far this master has come in forming a grid. Fields are filled from top to bottom.
type formingRecord struct {
	MasterID    event.MasterID    `json:"master_id"`
	StoreID     string            `json:"store_id"`
	GridID      string            `json:"grid_id,omitempty"` // empty: undecided
	Incarnation event.Incarnation `json:"incarnation"`
	Servers     []event.ReplicaID `json:"servers,omitempty"`
	Done        bool              `json:"done"` // the stores were made; they are never made again

	Join     bool `json:"join,omitempty"`     // of a grid that existed; Servers is empty
	Admitted bool `json:"admitted,omitempty"` // having joined, it has seen itself on record as a member
	Removed  bool `json:"removed,omitempty"`  // from the configuration, for good
}

func (r formingRecord) replica() event.ReplicaID {
	return event.NewReplicaID(string(r.MasterID), r.StoreID)
}

func (r formingRecord) founding() Founding {
	return Founding{Replica: r.replica(), GridID: r.GridID, Incarnation: r.Incarnation, Servers: r.Servers,
		Join: r.Join, Admitted: r.Admitted || !r.Join}
}

// readForming returns the zero record when there is none.
func readForming(dir *datadir.Dir) (formingRecord, error) {
	var r formingRecord
	path := dir.Path(formingFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	if r.StoreID == "" || r.MasterID == "" {
		return r, fmt.Errorf("read %s: no master or store id in it", path)
	}
	return r, nil
}

func writeForming(dir *datadir.Dir, r formingRecord) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", formingFile, err)
	}
	if err := datadir.WriteFileAtomic(dir.Path(formingFile), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", dir.Path(formingFile), err)
	}
	return nil
}
