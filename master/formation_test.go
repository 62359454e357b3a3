package master

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/internal/datadir"
	"github.com/sutra-grid/sutra-grid/internal/fault"
	"github.com/sutra-grid/sutra-grid/transport"
)

var errCrash = errors.New("crashed here")

// village is a set of masters that form a grid; greetings are calls of each other's Hello.
type village struct {
	t     *testing.T
	root  string
	peers Peers

	mu      sync.Mutex
	present map[string]*formation // guarded by mu; by grid address
}

func newVillage(t *testing.T) *village {
	peers, err := ParsePeers("m1=h:1/2/3,m2=h:4/5/6,m3=h:7/8/9")
	if err != nil {
		t.Fatal(err)
	}
	return &village{t: t, root: t.TempDir(), peers: peers, present: map[string]*formation{}}
}

func (v *village) greet(_ context.Context, address string, hello *transport.MasterHello) (*transport.MasterHelloOk, error) {
	v.mu.Lock()
	f := v.present[address]
	v.mu.Unlock()
	if f == nil {
		return nil, errors.New("connection refused")
	}
	return f.Hello(hello)
}

// start runs one master's formation until it ends; crashAt is the step behind which its process dies.
func (v *village) start(ctx context.Context, id event.MasterID, crashAt fault.Label) (Founding, error) {
	cfg := DefaultConfig()
	cfg.ID, cfg.Peers, cfg.Bootstrap = id, v.peers, true
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.seams.fault = func(label fault.Label) error {
		if label == crashAt {
			return errCrash
		}
		return nil
	}
	dir, err := datadir.Lock(filepath.Join(v.root, string(id)))
	if err != nil {
		return Founding{}, err
	}
	f, err := newFormation(cfg, dir)
	if err != nil {
		return Founding{}, errors.Join(err, dir.Close())
	}
	f.greet = v.greet
	f.build = func(founding Founding) error {
		return os.WriteFile(dir.Path("stores"), []byte(fmt.Sprint(founding)), 0o600)
	}
	v.mu.Lock()
	v.present[f.self.Grid] = f
	v.mu.Unlock()
	founding, err := f.Run(ctx)
	if err != nil {
		v.mu.Lock()
		delete(v.present, f.self.Grid) // the process is gone
		v.mu.Unlock()
	}
	return founding, errors.Join(err, dir.Close())
}

// untilFormed starts a master, crashing it once, and returns what it was founded with. It stays present afterwards.
func (v *village) untilFormed(ctx context.Context, id event.MasterID, crashAt fault.Label) (Founding, error) {
	founding, err := v.start(ctx, id, crashAt)
	if errors.Is(err, errCrash) {
		founding, err = v.start(ctx, id, 0)
	}
	return founding, err
}

var formationSteps = []fault.Label{fault.FormationStore, fault.FormationDecide, fault.FormationIdentity, fault.FormationStores, fault.FormationDone}

// TestFormationSurvivesACrashAtEachStep forms a grid of three while one master, or all, crash behind a step and start again:
// all three are founded on the same grid with the same three voters, and a later start changes nothing.
func TestFormationSurvivesACrashAtEachStep(t *testing.T) {
	for _, who := range []string{"m1", "m2", "m3", "all"} {
		for _, step := range formationSteps {
			t.Run(who+"/"+fault.Name(step), func(t *testing.T) {
				t.Parallel()
				v := newVillage(t)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				foundings := make([]Founding, len(v.peers))
				errs := make([]error, len(v.peers))
				var wg sync.WaitGroup
				for i, p := range v.peers {
					wg.Go(func() {
						var crashAt fault.Label
						if who == "all" || who == string(p.ID) {
							crashAt = step
						}
						foundings[i], errs[i] = v.untilFormed(ctx, p.ID, crashAt)
					})
				}
				wg.Wait()
				if err := errors.Join(errs...); err != nil {
					t.Fatal(err)
				}
				checkFoundings(t, v, foundings)
				for i, p := range v.peers {
					again, err := v.start(ctx, p.ID, 0)
					if err != nil || !reflect.DeepEqual(again, foundings[i]) {
						t.Errorf("%s starts again with %+v, %v; was %+v", p.ID, again, err, foundings[i])
					}
				}
			})
		}
	}
}

func checkFoundings(t *testing.T, v *village, foundings []Founding) {
	t.Helper()
	first := foundings[0]
	if first.GridID == "" || first.Incarnation.N != 1 || len(first.Servers) != len(v.peers) {
		t.Fatalf("founded on %+v", first)
	}
	for i, f := range foundings {
		if f.GridID != first.GridID || f.Incarnation != first.Incarnation || !reflect.DeepEqual(f.Servers, first.Servers) {
			t.Errorf("%s is founded on %+v, %s on %+v", v.peers[i].ID, f, v.peers[0].ID, first)
		}
		if f.Replica != first.Servers[i] || f.Replica.Owner() != string(v.peers[i].ID) {
			t.Errorf("%s is replica %s of %v", v.peers[i].ID, f.Replica, first.Servers)
		}
		stores, err := os.ReadFile(filepath.Join(v.root, string(v.peers[i].ID), "stores"))
		if err != nil || string(stores) != fmt.Sprint(f) {
			t.Errorf("%s made its stores for %q, %v", v.peers[i].ID, stores, err)
		}
	}
}

// formed is a village whose grid exists.
func formed(t *testing.T) *village {
	t.Helper()
	v := newVillage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range v.peers {
		wg.Go(func() {
			if _, err := v.start(ctx, p.ID, 0); err != nil {
				t.Errorf("form: %v", err)
			}
		})
	}
	wg.Wait()
	return v
}

// TestFormationRefuses: whatever could make a second grid, or a second vote, is refused with a line that says why.
func TestFormationRefuses(t *testing.T) {
	short := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	for _, first := range []string{"m1", "m2"} {
		t.Run("emptied disk of "+first, func(t *testing.T) {
			v := formed(t)
			if err := os.RemoveAll(filepath.Join(v.root, first)); err != nil {
				t.Fatal(err)
			}
			_, err := v.start(short(t), event.MasterID(first), 0)
			wantError(t, err, "whose masters", "do not include "+first)
		})
	}
	t.Run("different lists", func(t *testing.T) {
		v := formed(t)
		v.peers = slices.Clone(v.peers) // the others keep theirs
		v.peers[2].Raft = "elsewhere:7"
		if err := os.RemoveAll(filepath.Join(v.root, "m3")); err != nil {
			t.Fatal(err)
		}
		_, err := v.start(short(t), "m3", 0)
		wantError(t, err, "lists of peers differ", "elsewhere:7")
	})
	t.Run("somebody else at the address", func(t *testing.T) {
		v := newVillage(t)
		v.present["h:6"] = &formation{self: v.peers[2], peers: v.peers, record: formingRecord{StoreID: "s"}}
		_, err := v.start(short(t), "m1", 0)
		wantError(t, err, "says m2 is at h:6, but m3 answers")
	})
	t.Run("record gone", func(t *testing.T) {
		v := formed(t)
		if err := os.Remove(filepath.Join(v.root, "m1", formingFile)); err != nil {
			t.Fatal(err)
		}
		_, err := v.start(short(t), "m1", 0)
		wantError(t, err, "never made up again")
	})
	t.Run("another master's directory", func(t *testing.T) {
		v := formed(t)
		if err := os.Rename(filepath.Join(v.root, "m2"), filepath.Join(v.root, "m1")); err == nil {
			t.Fatal("a directory in the way was replaced")
		}
		if err := errors.Join(os.RemoveAll(filepath.Join(v.root, "m1")), os.Rename(filepath.Join(v.root, "m2"), filepath.Join(v.root, "m1"))); err != nil {
			t.Fatal(err)
		}
		_, err := v.start(short(t), "m1", 0)
		wantError(t, err, "belongs to m2, this master is m1")
	})
	t.Run("not empty", func(t *testing.T) {
		v := newVillage(t)
		dir := filepath.Join(v.root, "m1")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "letters.txt"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := v.start(short(t), "m1", 0)
		wantError(t, err, "is not empty and belongs to no master")
	})
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}
