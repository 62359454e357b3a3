package agent

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/sutra-grid/sutra-grid/transport"
)

// PortRange is where an agent's nodes listen, both ends included.
type PortRange struct {
	From, To uint32
}

// openEnded is how many ports a range without an end has.
const openEnded = 100

// ParsePortRange reads FROM-TO, or FROM for a range of 100 ports.
func ParsePortRange(s string) (PortRange, error) {
	from, to, closed := strings.Cut(s, "-")
	f, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return PortRange{}, fmt.Errorf("port range %q: want FROM or FROM-TO", s)
	}
	r := PortRange{From: uint32(f), To: min(uint32(f)+openEnded-1, 65535)}
	if closed {
		t, err := strconv.ParseUint(to, 10, 16)
		if err != nil {
			return PortRange{}, fmt.Errorf("port range %q: want FROM or FROM-TO", s)
		}
		r.To = uint32(t)
	}
	return r, r.check()
}

func (r PortRange) check() error {
	if r.From == 0 || r.To > 65535 || r.From > r.To {
		return fmt.Errorf("port range %d-%d: want 1 to 65535, the lower end first", r.From, r.To)
	}
	return nil
}

// String is the form ParsePortRange reads.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.From, r.To) }

// pick chooses a port: the preferred one if it is free, else the next free one of the range, beginning behind the preferred and
// going round once. preferred 0 means the first of the range.
func (r PortRange) pick(preferred uint32, free func(uint32) bool) (uint32, error) {
	if preferred != 0 && free(preferred) {
		return preferred, nil
	}
	from := r.From
	if preferred >= r.From && preferred < r.To {
		from = preferred + 1
	}
	for n := range r.To - r.From + 1 {
		p := r.From + (from-r.From+n)%(r.To-r.From+1)
		if p != preferred && free(p) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no port of %s is free", r)
}

// listenable tells whether a node could listen there now. It is a hint: who loses a race for the port reports a failed start, and
// the next one picks another.
func listenable(on transport.Network, host string, port uint32) bool {
	l, err := on.Listen(net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
