package master

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/sutra-grid/sutra-grid/transport"
)

// certified is one certificate for the hosts a, b and c, and what trusts it alone.
func certified(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a", "b", "c"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
	return server, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
}

// TestEveryPortSpeaksTLS forms a grid whose raft, grid and HTTP ports speak TLS, and nothing else.
func TestEveryPortSpeaksTLS(t *testing.T) {
	server, client := certified(t)
	c := newCluster(t, func(cfg *Config) { cfg.ServerTLS, cfg.ClientTLS = server, client })
	c.start(c.ids()...)
	_, followers := c.leader()
	must[transport.RegisterAgentOk](c, followers[0], registration(1))
	if status, _, body := c.http(followers[1], "GET", "/api/agents/agent-1", ""); status != http.StatusOK {
		t.Errorf("over HTTP: %d %s", status, body)
	}
	plain := transport.NewPool(transport.PoolConfig{Network: c.net})
	defer plain.Close()
	if reply, err := plain.Call(t.Context(), c.peer(followers[0]).Grid, &transport.ListAgents{}); err == nil {
		t.Errorf("the grid port answers %T without TLS", reply)
	}
}
