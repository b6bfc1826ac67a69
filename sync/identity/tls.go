package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// The protocols that a listener for hosts speaks inside TLS.
const (
	LinkProtocol   = "http/1.1"
	PairProtocol   = "duo-pair/1"
	SpliceProtocol = "duo-splice/1" // of a connection that is carried on to a third host
)

var (
	// ErrUnknownHost means that nobody has paired this host with the other.
	ErrUnknownHost = errors.New("unknown host")
	// ErrBadCertificate means that a certificate is not one of duo's.
	ErrBadCertificate = errors.New("not a certificate of a duo host")
)

// keysExtension is where a certificate carries the keys of its host.
var keysExtension = asn1.ObjectIdentifier{2, 25, 1920461168}

// Trust says which hosts are let in.
type Trust interface {
	// Check is asked in the handshake, when keys are shown and not proved yet. It
	// compares them with what is pinned for their id, as [Keys.Follow] does, and
	// returns ErrUnknownHost where nothing is. It changes nothing: whoever takes the
	// connection pins longer keys then.
	Check(shown Keys) error
}

// ServerConfig is for a listener for hosts: the linked ones get in, and with
// PairProtocol any host while pairing reports that a code is open.
func (h *Host) ServerConfig(trust Trust, pairing func() bool) *tls.Config {
	return h.config([]string{LinkProtocol, PairProtocol, SpliceProtocol}, func(keys Keys, protocol string) error {
		switch {
		case protocol == LinkProtocol || protocol == SpliceProtocol:
			return trust.Check(keys)
		case protocol == PairProtocol && pairing != nil && pairing():
			return nil
		}
		return ErrUnknownHost
	})
}

// ClientConfig is for dialling the host with this id and no other.
func (h *Host) ClientConfig(id string, trust Trust) *tls.Config {
	return h.dialConfig(LinkProtocol, id, trust)
}

// SpliceConfig is for dialling the host with this id, and no other, that carries the
// connection on to a third one.
func (h *Host) SpliceConfig(id string, trust Trust) *tls.Config {
	return h.dialConfig(SpliceProtocol, id, trust)
}

func (h *Host) dialConfig(want, id string, trust Trust) *tls.Config {
	return h.config([]string{want}, func(keys Keys, protocol string) error {
		if protocol != want {
			return fmt.Errorf("the other speaks %q, want %q", protocol, want)
		}
		if keys.ID() != id {
			return fmt.Errorf("%w: it is %s, want %s", ErrChangedKey, keys.ID(), id)
		}
		return trust.Check(keys)
	})
}

// pairConfig is for dialling the host that has printed a code.
func (h *Host) pairConfig(code Code) *tls.Config {
	return h.config([]string{PairProtocol}, func(keys Keys, protocol string) error {
		if protocol != PairProtocol {
			return fmt.Errorf("the other speaks %q, want %q", protocol, PairProtocol)
		}
		if !code.names(keys.Newest()) {
			return fmt.Errorf("%w: not the host that has printed the code", ErrChangedKey)
		}
		return nil
	})
}

// config is what both sides have in common. The check stands in VerifyConnection:
// VerifyPeerCertificate is passed over where a session is resumed.
func (h *Host) config(protocols []string, check func(Keys, string) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{h.certificate},
		NextProtos:             protocols,
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // no authority knows a host; check does
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			keys, err := PeerKeys(state)
			if err != nil {
				return err
			}
			return check(keys, state.NegotiatedProtocol)
		},
	}
}

// PeerKeys returns the keys of the host at the other end. They are proved when the
// handshake is done.
func PeerKeys(state tls.ConnectionState) (Keys, error) {
	if len(state.PeerCertificates) != 1 {
		return Keys{}, fmt.Errorf("%w: want one certificate, got %d", ErrBadCertificate, len(state.PeerCertificates))
	}
	keys, err := certificateKeys(state.PeerCertificates[0])
	if err != nil {
		return Keys{}, fmt.Errorf("%w: %w", ErrBadCertificate, err)
	}
	return keys, nil
}

// RefusedByPeer reports whether a connection has ended because the other host does not
// let this one in. Who dials may hear so only when it first reads.
func RefusedByPeer(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func certificateKeys(c *x509.Certificate) (Keys, error) {
	public, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok {
		return Keys{}, fmt.Errorf("want an Ed25519 key, got %T", c.PublicKey)
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return Keys{}, err
	}
	for _, e := range c.Extensions {
		if !e.Id.Equal(keysExtension) {
			continue
		}
		keys, err := ParseKeys(e.Value)
		if err != nil {
			return Keys{}, err
		}
		if !bytes.Equal(keys.Newest(), public) {
			return Keys{}, errors.New("its key is not the newest of its host")
		}
		return keys, nil
	}
	return Keys{}, errors.New("it carries no keys")
}

// makeCertificate signs a certificate that never ends: the keys decide, not a clock.
func makeCertificate(keys Keys, private ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(int64(keys.Len())),
		Subject:         pkix.Name{CommonName: keys.ID()},
		NotBefore:       time.Unix(0, 0),
		NotAfter:        time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: keysExtension, Value: keys.Text()}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}
