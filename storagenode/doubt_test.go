package storagenode

import (
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
	"github.com/sutra-grid/sutra-grid/storagenode/engine"
)

func prepared(n byte, nonce uint64) engine.Prepared {
	return engine.Prepared{TxnID: event.TxnID{15: n}, Attempt: nonce}
}

func TestDoubts(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	d := newDoubts(2*time.Second, 500*time.Millisecond)
	look := func(ms int, list ...engine.Prepared) ([]engine.Prepared, time.Duration) {
		return d.observe(at(ms), list)
	}

	if due, next := look(0, prepared(1, 1)); len(due) != 0 || next != 2*time.Second {
		t.Fatalf("a new attempt: due %v, next %s", due, next)
	}
	if due, next := look(1500, prepared(1, 1), prepared(2, 1)); len(due) != 0 || next != 500*time.Millisecond {
		t.Fatalf("a second one: due %v, next %s", due, next)
	}
	if due, next := look(2000, prepared(1, 1), prepared(2, 1)); len(due) != 1 || due[0].TxnID[15] != 1 || next != 1500*time.Millisecond {
		t.Fatalf("the first falls due: due %v, next %s", due, next)
	}
	if due, _ := look(2100, prepared(1, 1), prepared(2, 1)); len(due) != 0 {
		t.Fatalf("asked twice at once: %v", due)
	}
	d.answered(at(2200), attempt{event.TxnID{15: 1}, 1})
	if due, _ := look(2600, prepared(1, 1), prepared(2, 1)); len(due) != 0 {
		t.Fatalf("asked again too soon: %v", due)
	}
	if due, _ := look(2700, prepared(1, 1), prepared(2, 1)); len(due) != 1 {
		t.Fatalf("still prepared after an inquiry without an answer: due %v", due)
	}
	// Another attempt of the same transaction is another doubt, with a time of its own.
	if due, next := look(2800, prepared(1, 2)); len(due) != 0 || next != 2*time.Second {
		t.Fatalf("a new attempt: due %v, next %s", due, next)
	}
	d.answered(at(2900), attempt{event.TxnID{15: 1}, 1})
	if due, next := look(3000); len(due) != 0 || next != 0 || len(d.held) != 0 || d.asking != 0 {
		t.Fatalf("nothing is prepared: due %v, next %s, held %d, asking %d", due, next, len(d.held), d.asking)
	}
}

func TestDoubtsAreBounded(t *testing.T) {
	now := time.Now()
	d := newDoubts(time.Second, time.Second)
	var list []engine.Prepared
	for i := range 3 * maxAsking {
		list = append(list, prepared(byte(i), uint64(i)))
	}
	d.observe(now, list)
	due, _ := d.observe(now.Add(time.Second), list)
	if len(due) != maxAsking {
		t.Fatalf("%d inquiries at once, want %d", len(due), maxAsking)
	}
	d.answered(now.Add(time.Second), attempt{due[0].TxnID, due[0].Attempt})
	if due, _ := d.observe(now.Add(time.Second), list); len(due) != 1 {
		t.Fatalf("an inquiry ended, and %d take its place", len(due))
	}
}

func TestAlarmIsNotPutOff(t *testing.T) {
	a := newAlarm()
	defer a.stop()
	a.within(20 * time.Millisecond)
	begin := time.Now()
	for i := 0; ; i++ {
		a.within(time.Hour)
		select {
		case <-a.C:
			if waited := time.Since(begin); waited < 20*time.Millisecond {
				t.Fatalf("rang after %s", waited)
			}
			a.rang()
			a.within(0)
			<-a.C
			return
		default:
		}
	}
}
