package transport

import (
	"context"
	"net"
	"time"
)

// dialTimeout bounds one attempt to connect when the caller's context allows more: a host that does not answer at all
// must not use up the time another address would need.
const dialTimeout = 3 * time.Second

// keepAlive finds a peer whose machine is gone within about 15 s of silence.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}

// TCP is the network of the operating system. TCP_NODELAY is on (Go's default).
func TCP() Network { return tcpNetwork{} }

type tcpNetwork struct{}

func (tcpNetwork) Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	return lc.Listen(context.Background(), "tcp", addr)
}

func (tcpNetwork) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive}
	return d.DialContext(ctx, "tcp", addr)
}
