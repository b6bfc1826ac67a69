package identity_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
)

// FuzzCertificate reads the certificates that anybody may show. One that is taken is
// signed by the newest of its keys.
func FuzzCertificate(f *testing.F) {
	home := newHome(f, "nyc")
	h := open(f, home)
	for _, host := range []*identity.Host{h, rotate(f, h, home)} {
		f.Add(host.ServerConfig(knows(), nil).Certificates[0].Certificate[0])
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		keys, err := identity.PeerKeys(tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}})
		if err == nil && !keys.Newest().Equal(c.PublicKey) {
			t.Errorf("it has the key %x, and shows %x", c.PublicKey, keys.Newest())
		}
	})
}

// said is a connection on which the other side has said something.
type said struct {
	net.Conn
	io.Reader
}

func (s said) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// FuzzPairLine reads what anybody may say while a code is open.
func FuzzPairLine(f *testing.F) {
	for _, s := range []string{`{"name":"lon","proof":"AAAA"}`, `{"refused":"code"}`, `{"refused":"x"}`, `{"name":"a b","proof":"?"}`, "{", ""} {
		f.Add([]byte(s + "\n"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		name, _, err := identity.Hear(said{Reader: bytes.NewReader(text)})
		if err == nil && envelope.CheckHost(name) != nil {
			t.Errorf("%q is taken as a name", name)
		}
	})
}
