package transport

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// TestSever: whoever is connected, either way, learns it at once; nobody can connect any more; nothing can be opened.
func TestSever(t *testing.T) {
	outside := TCP()
	inside := NewSeverable(outside)
	ours := listen(t, inside)
	theirs := listen(t, outside)
	in := dialRaw(t, outside, ours.Addr().String())
	accepted, err := ours.Accept()
	if err != nil {
		t.Fatal(err)
	}
	dialled := dialRaw(t, inside, theirs.Addr().String())
	out, err := theirs.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	closedBefore := dialRaw(t, inside, theirs.Addr().String())
	if err := closedBefore.Close(); err != nil {
		t.Fatal(err)
	}
	if err := inside.Sever(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{in, out} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other side reads %d, %v", n, err)
		}
	}
	for _, c := range []net.Conn{accepted, dialled} {
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("this side writes: %v", err)
		}
	}
	if c, err := outside.Dial(t.Context(), ours.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v: somebody listens", c, err)
	}
	if _, err := ours.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if c, err := inside.Dial(t.Context(), theirs.Addr().String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial: %v, %v", c, err)
	}
	if l, err := inside.Listen("127.0.0.1:0"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen: %v, %v", l, err)
	}
	if err := inside.Sever(); err != nil {
		t.Errorf("again: %v", err)
	}
}
