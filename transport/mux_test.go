package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/fsm/event"
)

// startMux serves frames with an echoing server and raft connections with an upper-case echo of 4 bytes.
func startMux(t *testing.T, n Network, conf *tls.Config, raft bool) (addr string) {
	t.Helper()
	l := listen(t, n)
	m := NewMux(l, conf, quiet())
	if raft {
		rl := m.Raft()
		go func() {
			for {
				c, err := rl.Accept()
				if err != nil {
					return
				}
				go func() {
					b := make([]byte, 5)
					_, _ = io.ReadFull(c, b)
					_, _ = c.Write([]byte(strings.ToUpper(string(b[1:]))))
					_ = c.Close()
				}()
			}
		}()
	}
	s := NewServer(ServerConfig{Handler: echoID, Log: quiet()})
	done := make(chan error, 2)
	go func() { done <- s.Serve(context.Background(), m.Frames()) }()
	go func() { done <- m.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
		<-done
	})
	return l.Addr().String()
}

// echoID answers QueryConcept with its id, and everything else with FlushOk.
func echoID(_ context.Context, _ *Session, req any) (any, error) {
	if q, ok := req.(*QueryConcept); ok {
		return &QueryConceptOk{ConceptID: q.ConceptID}, nil
	}
	return FlushOk{}, nil
}

func TestMuxByFirstByte(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		addr := startMux(t, n, nil, true)
		noRaft := startMux(t, n, nil, false)
		c := dialConn(t, n, addr)
		if ok, err := As[QueryConceptOk](c.Call(t.Context(), &QueryConcept{ConceptID: "x"})); err != nil || ok.ConceptID != "x" {
			t.Errorf("frames: %v, %v", ok, err)
		}
		r := dialRaw(t, n, addr)
		_, _ = r.Write([]byte("\xc1raft"))
		if got, err := io.ReadAll(r); string(got) != "RAFT" || err != nil {
			t.Errorf("raft: %q, %v", got, err)
		}
		for _, tt := range []struct{ addr, bytes, want string }{
			{addr, "GET / HTTP/1.1\r\n\r\n", "0x47"}, {addr, "\x07\x00\x00\x00", "0x07"}, {addr, "\xff\xff\xff\xff", "0xff"},
			{addr, "\x16\x03\x01", "does not speak TLS"}, {noRaft, "\xc1raft", "no raft traffic"},
		} {
			bad := dialRaw(t, n, tt.addr)
			_, _ = bad.Write([]byte(tt.bytes))
			rd := rawReader(bad)
			if e, ok := nextMessage(t, rd).(*event.Error); !ok || !strings.Contains(e.Message, tt.want) {
				t.Errorf("%q: %v", tt.bytes, e)
			}
			if _, _, err := rd.next(); err != io.EOF {
				t.Errorf("%q: the connection lives: %v", tt.bytes, err)
			}
		}
	})
}

func TestMuxCloseEndsWhatWaits(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		l := listen(t, n)
		m := NewMux(l, nil, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Serve(ctx) }()
		silent, unaccepted := dialRaw(t, n, l.Addr().String()), dialRaw(t, n, l.Addr().String())
		_, _ = unaccepted.Write([]byte{0})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, c := range []net.Conn{silent, unaccepted} {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives its mux")
			}
		}
		if _, err := m.Frames().Accept(); err == nil {
			t.Error("accepts after Close")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestMuxRefusesFramesOnceTheirOutletIsClosed: every such connection is answered and closed, none is left with nobody to read it.
func TestMuxRefusesFramesOnceTheirOutletIsClosed(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		l := listen(t, n)
		m := NewMux(l, nil, quiet())
		if err := m.Frames().Close(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- m.Serve(t.Context()) }()
		for range 20 {
			c := dialRaw(t, n, l.Addr().String())
			_, _ = c.Write([]byte{0, 0, 0, 3, 1, 2, 3})
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if b, err := io.ReadAll(c); err != nil || !bytes.Contains(b, []byte("no frames on this port")) {
				t.Fatalf("answered %q, %v", b, err)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// authority is a CA of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "grid test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool}
}

func (a *authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "peer"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestMutualTLS: with a configuration a port speaks mutual TLS 1.3, for frames and raft traffic alike, and nothing else.
func TestMutualTLS(t *testing.T) {
	both(t, func(t *testing.T, n Network) {
		ca, strangers := newAuthority(t), newAuthority(t)
		addr := startMux(t, n, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t)}, ClientCAs: ca.pool,
			ClientAuth: tls.RequireAndVerifyClientCert}, true)
		good := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t)}, RootCAs: ca.pool}

		pool := NewPool(PoolConfig{Network: n, TLS: good})
		defer pool.Close()
		if ok, err := Call[QueryConceptOk](t.Context(), pool, addr, &QueryConcept{ConceptID: "x"}); err != nil || ok.ConceptID != "x" {
			t.Errorf("frames: %v, %v", ok, err)
		}
		r, err := Dial(t.Context(), n, addr, good)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, _ = r.Write([]byte("\xc1raft"))
		if got, err := io.ReadAll(r); string(got) != "RAFT" || err != nil {
			t.Errorf("raft: %q, %v", got, err)
		}

		for name, bad := range map[string]*tls.Config{
			"no certificate":      {RootCAs: ca.pool},
			"another CA's":        {RootCAs: ca.pool, Certificates: []tls.Certificate{strangers.issue(t)}},
			"server not trusted":  {RootCAs: strangers.pool, Certificates: []tls.Certificate{ca.issue(t)}},
			"TLS 1.2":             {RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t)}, MaxVersion: tls.VersionTLS12},
			"another server name": {RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t)}, ServerName: "elsewhere"},
		} {
			if c, err := DialConn(t.Context(), DialConfig{Network: n, Addr: addr, TLS: bad}); err == nil {
				_ = c.Close()
				t.Errorf("%s: connected", name)
			}
		}
		plain := dialRaw(t, n, addr)
		_, _ = plain.Write(frameOf(t, &GetStats{}))
		if e, ok := nextMessage(t, rawReader(plain)).(*event.Error); !ok || !strings.Contains(e.Message, "TLS only") {
			t.Errorf("plain: %v", e)
		}
	})
}
