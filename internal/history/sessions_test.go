package history

import (
	"testing"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

func TestSessions(t *testing.T) {
	at := func(o Register, seq, epoch uint64) Register {
		o.RegisterAnswer.Seq, o.RegisterAnswer.Epoch = seq, event.Position{N: 1, Seq: epoch}
		return o
	}
	good := told(at(regRead(1, 0, 1, "", 0), 5, 3), at(regWrite(1, 2, 6, "a", 1), 7, 3), at(regRead(2, 3, 5, "", 0), 6, 3), at(regRead(2, 8, 9, "a", 1), 7, 4))
	if r := Sessions(good); !r.Valid() || r.Checked != 4 {
		t.Error(r)
	}
	for name, tt := range map[string]struct {
		want Class
		h    []Register
	}{
		"a session's event":           {StaleRead, told(at(regRead(1, 0, 1, "", 0), 5, 3), at(regRead(1, 1, 3, "", 0), 4, 3))},
		"a session's epoch":           {StaleRead, told(at(regRead(1, 0, 1, "", 0), 5, 3), at(regRead(1, 1, 3, "", 0), 6, 2))},
		"another one's event":         {StaleRead, told(at(regRead(1, 0, 1, "", 0), 5, 3), at(regRead(2, 2, 3, "", 0), 4, 3))},
		"a write that is no event":    {NotLinear, told(at(regRead(1, 0, 1, "", 0), 5, 3), at(regWrite(2, 2, 3, "a", 1), 5, 3))},
		"nothing says where it is of": {Empty, told(regRead(1, 0, 1, "", 0))},
	} {
		if r := Sessions(tt.h); !r.Has(tt.want) {
			t.Errorf("%s: want %s, got %s", name, tt.want, r)
		}
	}
}
