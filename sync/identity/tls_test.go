package identity_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/claude-duo/duo/sync/identity"
)

// TestWhoGetsIn has hosts dial nyc, which knows lon, and is known by all.
func TestWhoGetsIn(t *testing.T) {
	home := newHome(t, "lon")
	old := open(t, home)
	lon := rotate(t, old, home)
	nyc, paris := newHost(t, "nyc"), newHost(t, "paris")
	newest := rotate(t, lon, home)
	as := func(h *identity.Host, change func(*tls.Config)) *tls.Config {
		c := h.ClientConfig(nyc.ID(), knows(nyc))
		if change != nil {
			change(c)
		}
		return c
	}
	with := func(cert tls.Certificate) func(*tls.Config) {
		return func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} }
	}
	its := func(h *identity.Host) tls.Certificate { return h.ClientConfig("", nil).Certificates[0] }
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	stolen := its(lon)
	stolen.PrivateKey = stranger // the certificate without its key
	for name, test := range map[string]struct {
		client *tls.Config
		want   string // what nyc says of it; empty where it gets in
	}{
		"a known host":                  {as(lon, nil), ""},
		"one with a newer key":          {as(newest, nil), ""},
		"one with an old key":           {as(old, nil), "old key"},
		"an unknown one":                {as(paris, nil), "unknown host"},
		"no certificate":                {as(lon, func(c *tls.Config) { c.Certificates = nil }), "certificate"},
		"two certificates":              {as(lon, with(twice(its(lon)))), "one certificate"},
		"another kind of key":           {as(lon, with(ecdsaCertificate(t))), "Ed25519"},
		"no keys in it":                 {as(lon, with(bare(t, stranger, nil))), "no keys"},
		"another host's keys":           {as(lon, with(bare(t, stranger, its(lon).Certificate[0]))), "newest"},
		"without the private half":      {as(lon, with(stolen)), "signature"},
		"TLS 1.2":                       {as(lon, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }), "version"},
		"no protocol":                   {as(lon, func(c *tls.Config) { c.NextProtos, c.VerifyConnection = nil, nil }), "unknown host"},
		"a known host, to be carried":   {as(lon, func(c *tls.Config) { c.NextProtos, c.VerifyConnection = []string{identity.SpliceProtocol}, nil }), ""},
		"an unknown one, to be carried": {as(paris, func(c *tls.Config) { c.NextProtos, c.VerifyConnection = []string{identity.SpliceProtocol}, nil }), "unknown host"},
		"pairing, no code open":         {as(lon, func(c *tls.Config) { c.NextProtos, c.VerifyConnection = []string{identity.PairProtocol}, nil }), "unknown host"},
	} {
		clientErr, serverErr := shake(t, test.client, nyc.ServerConfig(knows(lon), nil))
		if !says(serverErr, test.want) || (clientErr == nil) != (test.want == "") {
			t.Errorf("%s: got %v (and it has %v), want %q", name, serverErr, clientErr, test.want)
		}
	}
}

func TestWhoIsDialled(t *testing.T) {
	home := newHome(t, "nyc")
	old := open(t, home)
	nyc := rotate(t, old, home)
	lon, paris := newHost(t, "lon"), newHost(t, "paris")
	for name, test := range map[string]struct {
		server *identity.Host
		trust  *book
		want   error
	}{
		"the host":           {nyc, knows(nyc), nil},
		"with a newer key":   {nyc, knows(old), nil},
		"with an old key":    {old, knows(nyc), identity.ErrOldKey},
		"another known one":  {paris, knows(nyc, paris), identity.ErrChangedKey},
		"trusted no more":    {nyc, knows(), identity.ErrUnknownHost},
		"an unknown one":     {paris, knows(nyc), identity.ErrChangedKey},
		"itself, mirrored":   {lon, knows(nyc, lon), identity.ErrChangedKey},
		"one with its name":  {newHost(t, "nyc"), knows(nyc), identity.ErrChangedKey},
		"known to the other": {nyc, knows(nyc, lon), nil},
	} {
		clientErr, serverErr := shake(t, lon.ClientConfig(nyc.ID(), test.trust), test.server.ServerConfig(knows(lon), nil))
		if !errors.Is(clientErr, test.want) || (serverErr == nil) != (test.want == nil) {
			t.Errorf("%s: got %v (the other %v), want %v", name, clientErr, serverErr, test.want)
		}
	}
}

func TestRefusedByPeer(t *testing.T) {
	nyc, lon := newHost(t, "nyc"), newHost(t, "lon")
	clientErr, serverErr := shake(t, lon.ClientConfig(nyc.ID(), knows(nyc)), nyc.ServerConfig(knows(), nil))
	if !identity.RefusedByPeer(clientErr) || identity.RefusedByPeer(serverErr) || identity.RefusedByPeer(io.EOF) {
		t.Errorf("got %v and %v, want the first to be a refusal", clientErr, serverErr)
	}
}

// TestUnknownHostsNeverReachHTTP speaks HTTP to a host by another's door.
func TestUnknownHostsNeverReachHTTP(t *testing.T) {
	nyc, lon, paris := newHost(t, "nyc"), newHost(t, "lon"), newHost(t, "paris")
	var reached atomic.Int32
	server := &http.Server{
		Handler:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(tls.NewListener(l, nyc.ServerConfig(knows(lon), func() bool { return true })))
	}()
	t.Cleanup(func() { server.Close(); <-done })
	get := func(config *tls.Config) error {
		transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(paris.ClientConfig(nyc.ID(), knows(nyc))); err == nil || reached.Load() != 0 {
		t.Errorf("unknown host: got %v, and HTTP was reached %d times", err, reached.Load())
	}
	pairing := paris.ClientConfig(nyc.ID(), knows(nyc))
	pairing.NextProtos, pairing.VerifyConnection = []string{identity.PairProtocol}, nil
	if err := get(pairing); err == nil || reached.Load() != 0 {
		t.Errorf("pairing host: got %v, and HTTP was reached %d times", err, reached.Load())
	}
	if err := get(lon.ClientConfig(nyc.ID(), knows(nyc))); err != nil || reached.Load() != 1 {
		t.Errorf("linked host: got %v, and HTTP was reached %d times, want once", err, reached.Load())
	}
}

func twice(c tls.Certificate) tls.Certificate {
	c.Certificate = append(c.Certificate[:1:1], c.Certificate[0])
	return c
}

// bare is a certificate of a key, with the extensions of another certificate.
func bare(t *testing.T, key ed25519.PrivateKey, like []byte) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	if like != nil {
		parsed, err := x509.ParseCertificate(like)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = parsed.Extensions
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func ecdsaCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
