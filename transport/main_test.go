package transport

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// both runs a test on every Network.
func both(t *testing.T, f func(t *testing.T, n Network)) {
	t.Run("tcp", func(t *testing.T) { f(t, TCP()) })
	t.Run("memory", func(t *testing.T) { f(t, NewMemory()) })
	t.Run("host", func(t *testing.T) { f(t, NewMemory().Host("127.0.0.1")) })
	t.Run("severable", func(t *testing.T) { f(t, NewSeverable(TCP())) })
}

func listen(t testing.TB, n Network) net.Listener {
	t.Helper()
	l, err := n.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve runs a server until the test ends, and returns its address.
func serve(t testing.TB, n Network, cfg ServerConfig) (addr string, s *Server) {
	t.Helper()
	l := listen(t, n)
	if cfg.Log == nil {
		cfg.Log = quiet()
	}
	s = NewServer(cfg)
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), s
}

func dialRaw(t testing.TB, n Network, addr string) net.Conn {
	t.Helper()
	c, err := n.Dial(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialConn(t testing.TB, n Network, addr string) *Conn {
	t.Helper()
	c, err := DialConn(t.Context(), DialConfig{Network: n, Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// frameOf is a message as a frame.
func frameOf(t testing.TB, msg any) []byte {
	t.Helper()
	b, err := AppendFrame(nil, msg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rawReader reads frames from a bare connection.
func rawReader(c net.Conn) *frameReader {
	return &frameReader{ctx: context.Background(), conn: c, receive: 20 * time.Second, idle: func() time.Time { return time.Now().Add(20 * time.Second) }}
}

// nextMessage reads one message from a bare connection.
func nextMessage(t testing.TB, r *frameReader) any {
	t.Helper()
	payload, _, err := r.next()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := DecodeMessage(payload)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}
