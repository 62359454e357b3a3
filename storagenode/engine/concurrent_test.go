package engine

import (
	"fmt"
	"testing"

	"github.com/sutra-grid/sutra-grid/internal/raftgroup"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNoLockMeansReadable reads while transactions are prepared and committed: whoever sees an applied prepare and no lock
// must see what the transaction wrote. Entry 1 learns the concept, entries 2k and 2k+1 prepare and commit version k+1.
func TestNoLockMeansReadable(t *testing.T) {
	e := newEngine(t)
	write(t, e, concept("a"))
	const rounds = 300
	finished := make(chan error, 1)
	go func() {
		for {
			applied := e.Applied()
			prepared := e.Prepared()
			_, held := e.Holder("a")
			c, found, err := e.Concept("a")
			if err != nil || !found {
				finished <- fmt.Errorf("concept: %v, %w", found, err)
				return
			}
			if want := applied/2 + 1; !held && c.Version < want {
				finished <- fmt.Errorf("applied %d, no lock, version %d: want at least %d", applied, c.Version, want)
				return
			}
			if want := applied/2 + 1; len(prepared) == 0 && c.Version < want {
				finished <- fmt.Errorf("applied %d, nothing in doubt, version %d: want at least %d", applied, c.Version, want)
				return
			}
			if applied == 2*rounds+1 {
				finished <- nil
				return
			}
		}
	}()
	for k := uint64(1); k <= rounds; k++ {
		released := e.LockReleased()
		p, f := prepareOf(1, k, k, concept("a")), finishOf(1, k, k, true)
		p.Prepare.TxnID[9], p.Prepare.TxnID[10] = byte(k), byte(k>>8)
		f.Finish.TxnID = p.Prepare.TxnID
		prepare, finish := entryAt(t, 2*k, p), entryAt(t, 2*k+1, f)
		if k%3 == 0 { // one batch
			e.Apply([]raftgroup.Entry{prepare, finish})
		} else {
			e.Apply([]raftgroup.Entry{prepare})
			e.Apply([]raftgroup.Entry{finish})
		}
		select {
		case <-released:
		default:
			t.Fatalf("round %d: the release was not signalled", k)
		}
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
}

// TestReleaseWakesIntoTheNewState waits for releases as a scan does: who was woken finds the transaction gone.
func TestReleaseWakesIntoTheNewState(t *testing.T) {
	e := newEngine(t)
	for k := uint64(1); k <= 500; k++ {
		p, f := prepareOf(1, k, k, concept("a")), finishOf(1, k, k, false)
		yes(t, do(t, e, p)[0])
		released := e.LockReleased()
		late := make(chan int)
		go func() {
			for open := true; open; { // without sleeping: the moment behind the signal is short
				select {
				case <-released:
					open = false
				default:
				}
			}
			late <- len(e.Prepared())
		}()
		do(t, e, f)
		if n := <-late; n != 0 {
			t.Fatalf("round %d: woken by the release, %d transactions are still in doubt", k, n)
		}
	}
}
