package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Network is how processes reach each other: TCP in production, Memory in tests of whole clusters. One conformance suite
// holds both to the same behaviour.
//
// Listen returns a listener on addr; port 0 is replaced by a free one. An address in use is an error that wraps
// syscall.EADDRINUSE. Dial connects within ctx; when nobody listens the error wraps syscall.ECONNREFUSED. Connections
// are buffered both ways, know deadlines, deliver what was written before a Close, and have a CloseWrite method.
// Both methods are safe for concurrent use.
type Network interface {
	Listen(addr string) (net.Listener, error)
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// handshakeTimeout bounds a TLS handshake on either side.
const handshakeTimeout = 10 * time.Second

// Dial connects to addr over n, and speaks TLS when conf is not nil. With an empty ServerName the name to verify is
// addr's host, as in crypto/tls.
func Dial(ctx context.Context, n Network, addr string, conf *tls.Config) (net.Conn, error) {
	conn, err := n.Dial(ctx, addr)
	if err != nil || conf == nil {
		return conn, err
	}
	if conf.ServerName == "" && !conf.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conf = conf.Clone()
		conf.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	tc := tls.Client(conn, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error says more
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	return tc, nil
}

// halfCloser is what connections of every Network, and TLS over them, can do: end their own direction only.
type halfCloser interface{ CloseWrite() error }

const (
	lingerTime  = time.Second      // how long is read on
	lingerBytes = 256 << 10        // and how much
	lastWrite   = 10 * time.Second // how long a connection that is being closed may still take what is written to it
)

// lingerClose closes conn after a last reply was written: it reads on a little, because a close with unread input resets
// the connection, and a reset throws the reply away before the peer has read it.
func lingerClose(conn net.Conn) {
	if h, ok := conn.(halfCloser); ok && h.CloseWrite() == nil {
		_ = conn.SetDeadline(time.Now().Add(lingerTime))
		buf := make([]byte, 1<<10)
		for left := lingerBytes; left > 0; {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			left -= n
		}
	}
	_ = conn.Close() // whatever it says, nobody is left to tell
}
