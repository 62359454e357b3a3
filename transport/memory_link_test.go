package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// machines is a connection from host a to host b, in virtual time.
func machines(t *testing.T, f func(t *testing.T, m *Memory, a, b net.Conn)) {
	synctest.Test(t, func(t *testing.T) { connected(t, NewSeededMemory(7), f) })
}

// connected is the same on a given network.
func connected(t *testing.T, m *Memory, f func(t *testing.T, m *Memory, a, b net.Conn)) {
	l, err := m.Host("b").Listen("b:1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := m.Host("a").Dial(t.Context(), "b:1")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f(t, m, a, b)
}

func mustWrite(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

// arrival reads n bytes and says how long that took.
func arrival(t *testing.T, c net.Conn, n int) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// hangs tells that nothing can be read for an hour.
func hangs(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("read %d bytes, %v; want a time-out", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestCutHangsAndHealsInOrder(t *testing.T) {
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		mustWrite(t, a, []byte("1"))
		m.SetLink("a", "b", Link{Cut: true})
		arrival(t, b, 1) // was there already
		mustWrite(t, a, []byte("23"))
		mustWrite(t, b, []byte("x")) // the other direction lives
		arrival(t, a, 1)
		hangs(t, b)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		hangs(t, b)
		mustWrite(t, b, []byte("y")) // b cannot know that a has closed
		m.Heal()
		if got, err := io.ReadAll(b); string(got) != "23" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if _, err := b.Write([]byte("z")); !errors.Is(err, syscall.EPIPE) {
			t.Fatal(err)
		}
	})
}

// Over a one-way cut the other direction carries a window: nobody confirms what arrives.
func TestOneWayCutEndsTheWindow(t *testing.T) {
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		m.SetLink("a", "b", Link{Cut: true})
		done := make(chan error, 1)
		go func() { _, err := b.Write(make([]byte, 3*memoryWindow)); done <- err }()
		arrival(t, a, memoryWindow)
		hangs(t, a)
		m.SetLink("a", "b", Link{})
		arrival(t, a, 2*memoryWindow)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestDialOverACut(t *testing.T) {
	for _, ends := range [][2]string{{"a", "b"}, {"b", "a"}} { // the answer has to come back
		machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
			m.SetLink(ends[0], ends[1], Link{Cut: true})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			if c, err := m.Host("a").Dial(ctx, "b:1"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
				t.Fatalf("%v, %v after %v", c, err, time.Since(began))
			}
			time.AfterFunc(time.Hour, m.Heal)
			c, err := m.Host("a").Dial(t.Context(), "b:1")
			if err != nil || time.Since(began) != time.Hour+time.Minute {
				t.Fatalf("%v after %v", err, time.Since(began))
			}
			_ = c.Close()
		})
	}
}

func TestRefuseResets(t *testing.T) {
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		mustWrite(t, a, []byte("lost"))
		m.SetLink("b", "a", Link{Refuse: true})
		for _, c := range []net.Conn{a, b} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		if _, err := m.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		m.Heal()
		c, err := m.Host("a").Dial(t.Context(), "b:1")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
}

func TestSlowLink(t *testing.T) {
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		m.SetLink("a", "b", Link{Delay: time.Second})
		mustWrite(t, a, []byte("1"))
		if took := arrival(t, b, 1); took != time.Second {
			t.Errorf("arrived after %v", took)
		}
		began := time.Now()
		c, err := m.Host("a").Dial(t.Context(), "b:1")
		if err != nil || time.Since(began) != time.Second {
			t.Fatalf("dialled in %v, %v", time.Since(began), err)
		}
		_ = c.Close()
		m.SetLink("a", "b", Link{Bandwidth: 1000})
		mustWrite(t, a, make([]byte, 3000))
		if took := arrival(t, b, 3000); took != 3*time.Second {
			t.Errorf("3000 bytes at 1000 a second took %v", took)
		}
		m.SetLink("a", "b", Link{Delay: time.Second})
		mustWrite(t, a, []byte("1"))
		m.SetLink("a", "b", Link{})
		mustWrite(t, a, []byte("2")) // does not overtake
		if took := arrival(t, b, 2); took != time.Second {
			t.Errorf("arrived after %v", took)
		}
	})
}

// Jitter is a function of the seed and of what was sent before.
func TestJitterIsSeeded(t *testing.T) {
	run := func(seed uint64) (took []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			m := NewSeededMemory(seed)
			l, err := m.Host("b").Listen("b:1")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			m.SetLink("a", "b", Link{Jitter: time.Second})
			for range 20 {
				began := time.Now()
				c, err := m.Host("a").Dial(t.Context(), "b:1")
				if err != nil {
					t.Fatal(err)
				}
				took = append(took, time.Since(began))
				_ = c.Close()
			}
		})
		return took
	}
	first := run(1)
	if slices.Max(first) > time.Second || slices.Max(first) == slices.Min(first) {
		t.Errorf("jitter of up to 1 s: %v", first)
	}
	if again := run(1); !slices.Equal(first, again) {
		t.Errorf("one seed, two runs:\n%v\n%v", first, again)
	}
	if other := run(2); slices.Equal(first, other) {
		t.Errorf("two seeds, one run: %v", other)
	}
}

func TestHostGoesDown(t *testing.T) {
	for name, cut := range map[string]bool{"killed": false, "without power": true} {
		t.Run(name, func(t *testing.T) {
			machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
				mustWrite(t, b, []byte("arrived"))
				if cut {
					m.SetLink("b", "a", Link{Cut: true})
					mustWrite(t, b, []byte("lost"))
				}
				m.Down("b")
				if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
					t.Error(err)
				}
				if _, err := m.Host("b").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ENETDOWN) {
					t.Error(err)
				}
				if cut {
					if got := make([]byte, 7); true {
						if _, err := io.ReadFull(a, got); err != nil || !bytes.Equal(got, []byte("arrived")) {
							t.Fatal(string(got), err)
						}
					}
					hangs(t, a)
					m.Heal()
				} else if _, err := m.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Error(err)
				}
				if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%d, %v", n, err)
				}
				m.Up("b")
				c, err := m.Host("a").Dial(t.Context(), "b:1")
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close()
			})
		})
	}
}

func TestHostHasOneName(t *testing.T) {
	m := NewMemory()
	if l, err := m.Host("a").Listen("b:1"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("%v, %v", l, err)
	}
}

// A link keeps nothing of connections that have ended.
func TestLinksForget(t *testing.T) {
	var network *Memory
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		network = m
		m.SetLink("a", "b", Link{Delay: time.Second})
		_, _ = a.Close(), b.Close()
		time.Sleep(time.Minute) // virtual
		for _, l := range network.linksOf(func([2]string) bool { return true }) {
			if n := len(l.all()); n > 0 {
				t.Errorf("%d connections are left", n)
			}
		}
	})
}

// TestLossIsSentAgain: what is lost comes late and in order, and is counted; half an hour of it loses nothing.
func TestLossIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewSeededMemory(7)
		var mu sync.Mutex
		fates := map[Fate]int{}
		m.Watch(func(p Passage) {
			mu.Lock()
			defer mu.Unlock()
			if p.From == "a" && p.Bytes > 0 {
				fates[p.Fate]++
			}
		})
		m.SetLink("a", "b", Link{Loss: 0.5})
		connected(t, m, func(t *testing.T, m *Memory, a, b net.Conn) {
			began := time.Now()
			for i := range 100 {
				mustWrite(t, a, []byte{byte(i)})
			}
			got := make([]byte, 100)
			if _, err := io.ReadFull(b, got); err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if int(v) != i {
					t.Fatalf("byte %d is %d", i, v)
				}
			}
			if late := time.Since(began); fates[Delivered] != 100 || fates[Lost] < 50 || fates[Lost] > 200 || late < lossAgain {
				t.Errorf("%v within %s", fates, late)
			}
		})
	})
}

// TestBreakLosesForGood: what is lost with its connection is not read, and both ends hear of it.
func TestBreakLosesForGood(t *testing.T) {
	machines(t, func(t *testing.T, m *Memory, a, b net.Conn) {
		m.SetLink("a", "b", Link{Break: 1})
		mustWrite(t, b, []byte("x")) // the other direction lives
		arrival(t, a, 1)             // and what says that it was read does not arrive
		for _, c := range []net.Conn{a, b} {
			if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read %d bytes, %v; want a reset", n, err)
			}
		}
	})
}

// TestCutHoldsWhatIsOnItsWay: what was sent before a cut and has not arrived is held by it, and is told of, like what is sent later.
func TestCutHoldsWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		var fates []Fate
		m.Watch(func(p Passage) {
			if p.Bytes > 0 {
				fates = append(fates, p.Fate)
			}
		})
		connected(t, m, func(t *testing.T, m *Memory, a, b net.Conn) {
			m.SetLink("a", "b", Link{Delay: time.Second})
			mustWrite(t, a, []byte("x"))
			m.SetLink("a", "b", Link{Delay: time.Second, Cut: true})
			m.SetLink("a", "b", Link{Cut: true}) // the same cut
			time.Sleep(time.Minute)              // virtual
			if want := []Fate{Sent, Held}; !slices.Equal(fates, want) {
				t.Fatalf("%v, want %v", fates, want)
			}
			m.Heal()
			arrival(t, b, 1)
			if want := []Fate{Sent, Held, Delivered}; !slices.Equal(fates, want) {
				t.Errorf("%v, want %v", fates, want)
			}
		})
	})
}
