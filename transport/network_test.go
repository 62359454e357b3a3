package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestNetworks is the conformance suite: what a Network promises, on each of them.
func TestNetworks(t *testing.T) {
	suite := []struct {
		name string
		f    func(t *testing.T, n Network)
	}{
		{"nobody listens", nobodyListens}, {"address in use", addressInUse}, {"address is free again", freeAgain}, {"addresses", addresses},
		{"closed listener", closedListener}, {"cancelled dial", cancelledDial}, {"both directions", bothDirections},
		{"written before close", writtenBeforeClose}, {"half close", halfClose}, {"write to a closed peer", writeToClosed},
		{"close ends a read", closeEndsRead}, {"read deadline", readDeadline}, {"write deadline", writeDeadline}, {"deadline moves", deadlineMoves},
		{"backlog is reset", backlogIsReset}, {"many at once", manyAtOnce},
	}
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) { both(t, s.f) })
	}
}

// pair is both ends of a connection.
func pair(t *testing.T, n Network) (near, far net.Conn) {
	t.Helper()
	l := listen(t, n)
	near = dialRaw(t, n, l.Addr().String())
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	if err := far.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func nobodyListens(t *testing.T, n Network) {
	l := listen(t, n)
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := n.Dial(t.Context(), addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
}

func addressInUse(t *testing.T, n Network) {
	l := listen(t, n)
	if _, err := n.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if _, err := n.Listen("no port"); err == nil {
		t.Error("listens without a port")
	}
}

func freeAgain(t *testing.T, n Network) {
	l := listen(t, n)
	addr := l.Addr().String()
	for range 3 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if l, err = n.Listen(addr); err != nil {
			t.Fatal(err)
		}
	}
	_ = l.Close()
}

func addresses(t *testing.T, n Network) {
	near, far := pair(t, n)
	if near.RemoteAddr().String() != far.LocalAddr().String() || near.LocalAddr().String() != far.RemoteAddr().String() {
		t.Errorf("%s>%s and %s>%s", near.LocalAddr(), near.RemoteAddr(), far.LocalAddr(), far.RemoteAddr())
	}
	if near.LocalAddr().String() == near.RemoteAddr().String() {
		t.Error("both ends have one address")
	}
}

func closedListener(t *testing.T, n Network) {
	l := listen(t, n)
	done := make(chan error)
	go func() { _, err := l.Accept(); done <- err }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

func cancelledDial(t *testing.T, n Network) {
	l := listen(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := n.Dial(ctx, l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("connected with a cancelled context")
	}
}

func bothDirections(t *testing.T, n Network) {
	near, far := pair(t, n)
	data := make([]byte, 1<<20) // far more than either side buffers
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, c := range []net.Conn{near, far} {
		wg.Go(func() {
			if m, err := c.Write(data); m != len(data) || err != nil {
				t.Errorf("wrote %d, %v", m, err)
			}
		})
		wg.Go(func() {
			got := make([]byte, len(data))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read something else, %v", err)
			}
		})
	}
	wg.Wait()
}

func writtenBeforeClose(t *testing.T, n Network) {
	near, far := pair(t, n)
	if _, err := near.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func halfClose(t *testing.T, n Network) {
	near, far := pair(t, n)
	if err := near.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); len(got) != 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(near); string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := near.Write([]byte("x")); err == nil {
		t.Error("writes after CloseWrite")
	}
}

func writeToClosed(t *testing.T, n Network) {
	near, far := pair(t, n)
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100_000 { // the first may still go into a buffer
		if _, err := near.Write(make([]byte, 1024)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return
		}
	}
	t.Error("100 MB were written to nobody")
}

func closeEndsRead(t *testing.T, n Network) {
	near, _ := pair(t, n)
	done := make(chan error)
	go func() { _, err := near.Read(make([]byte, 1)); done <- err }()
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := near.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

func readDeadline(t *testing.T, n Network) {
	near, far := pair(t, n)
	for _, by := range []time.Time{time.Now().Add(10 * time.Millisecond), time.Unix(1, 0)} {
		if err := near.SetReadDeadline(by); err != nil {
			t.Fatal(err)
		}
		_, err := near.Read(make([]byte, 1))
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Error(err)
		}
	}
	if err := near.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if m, err := near.Read(make([]byte, 1)); m != 1 || err != nil {
		t.Errorf("after the deadline was taken away: %d, %v", m, err)
	}
}

func writeDeadline(t *testing.T, n Network) {
	near, _ := pair(t, n)
	much := make([]byte, 64<<20)
	if err := near.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	m, err := near.Write(much) // nobody reads
	if !errors.Is(err, os.ErrDeadlineExceeded) || m == 0 || m == 64<<20 {
		t.Errorf("%d, %v", m, err)
	}
}

// deadlineMoves: a deadline that is set while a read waits ends it.
func deadlineMoves(t *testing.T, n Network) {
	near, _ := pair(t, n)
	done := make(chan error)
	go func() { _, err := near.Read(make([]byte, 1)); done <- err }()
	if err := near.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// backlogIsReset: connections nobody accepted end with their listener.
func backlogIsReset(t *testing.T, n Network) {
	l := listen(t, n)
	c := dialRaw(t, n, l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Read(make([]byte, 1)); m != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", m, err)
	}
}

func manyAtOnce(t *testing.T, n Network) {
	l := listen(t, n)
	const conns = 50
	var wg sync.WaitGroup
	wg.Go(func() {
		for range conns {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	for i := range conns {
		wg.Go(func() {
			c, err := n.Dial(context.Background(), l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = c.Write([]byte{byte(i)})
			if got := make([]byte, 1); true {
				if _, err := io.ReadFull(c, got); err != nil || got[0] != byte(i) {
					t.Errorf("%d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestMemoryInVirtualTime: the memory network lives inside a bubble, deadlines included.
func TestMemoryInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := memoryPipe("a", "b")
		began := time.Now()
		if err := near.SetReadDeadline(began.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = near.Close()
	})
}
