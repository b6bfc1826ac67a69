// Package identity is who a host is: its key and those it had before, the
// certificate that shows them, the TLS configurations that let known hosts in and
// nobody else, and the codes by which two hosts come to know each other.
//
// A host is known by the id that follows from its first key. A later key is signed
// by the one before, and the certificate carries all of them: a peer sees in the TLS
// handshake that a new key belongs to a host that it knows. Whoever it does not
// know never reaches HTTP. docs/link.md states the formats.
//
// The package keeps no list of peers: whom a host trusts is for [Trust] to say.
package identity

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

const maxKeysFile = MaxKeys * maxKeyLine

// Host is the identity of this host: its keys, and the newest one's private half.
// It does not change.
type Host struct {
	name        string
	keys        Keys
	private     ed25519.PrivateKey
	certificate tls.Certificate
}

// Open reads the identity of the host in a home, and ends a rotation of its key that
// a crash has cut short. Only the daemon that holds the home may call it.
func Open(home *maildir.Home) (*Host, error) {
	private, err := maildir.ReadKey(home.KeyPath())
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(home, private)
	if err != nil {
		return nil, err
	}
	if !keys.Newest().Equal(private.Public()) {
		if private, err = finishRotation(home, keys); err != nil {
			return nil, err
		}
	}
	if home.Host.ID != keys.ID() {
		return nil, fmt.Errorf("%q has the id %q, but its keys are those of %q", home.HostPath(), home.Host.ID, keys.ID())
	}
	if err := tellKey(home, keys); err != nil {
		return nil, err
	}
	home.Host.Key = maildir.PublicText(keys.Newest())
	return newHost(home.Host.Name, keys, private)
}

// ReadKeys reads which keys the host in a home has and had, for whoever only looks.
func ReadKeys(home *maildir.Home) (Keys, error) {
	private, err := maildir.ReadKey(home.KeyPath())
	if err != nil {
		return Keys{}, err
	}
	return readKeys(home, private)
}

// readKeys reads the chain of keys. A host that has never changed its key has no file.
func readKeys(home *maildir.Home, private ed25519.PrivateKey) (Keys, error) {
	text, err := durable.ReadPlain(home.KeysPath(), maxKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return FirstKeys(private.Public().(ed25519.PublicKey)), nil
	}
	if err != nil {
		return Keys{}, fmt.Errorf("read keys: %w", err)
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return Keys{}, fmt.Errorf("%q: %w", home.KeysPath(), err)
	}
	return keys, nil
}

// Rotate gives the host in a home a new key, signed by the one it has, and returns
// what the host is then. It does not touch h.
func (h *Host) Rotate(home *maildir.Home) (*Host, error) {
	_, fresh, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	keys, err := h.keys.rotate(h.private, fresh)
	if err != nil {
		return nil, err
	}
	// A crash from here on leaves a private key that is nobody's yet; the next
	// rotation replaces it.
	if err := durable.Replace(home.NewKeyPath(), maildir.KeyText(fresh), 0o600); err != nil {
		return nil, err
	}
	// The commit point: from here on the host has the new key, and Open does the rest.
	if err := durable.Replace(home.KeysPath(), keys.Text(), 0o600); err != nil {
		return nil, err
	}
	if _, err := finishRotation(home, keys); err != nil {
		return nil, err
	}
	if err := tellKey(home, keys); err != nil {
		return nil, err
	}
	return newHost(h.name, keys, fresh)
}

// finishRotation puts the private half of the newest key in the place of the one before.
func finishRotation(home *maildir.Home, keys Keys) (ed25519.PrivateKey, error) {
	private, err := maildir.ReadKey(home.NewKeyPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil || !keys.Newest().Equal(private.Public()) {
		return nil, fmt.Errorf("the newest key in %q is not that of %q", home.KeysPath(), home.KeyPath())
	}
	if err := os.Rename(home.NewKeyPath(), home.KeyPath()); err != nil {
		return nil, fmt.Errorf("replace host key: %w", err)
	}
	return private, durable.SyncDir(home.Dir)
}

// tellKey makes host.json tell the newest key. It does not touch the home in memory, which
// others may be reading.
func tellKey(home *maildir.Home, keys Keys) error {
	host := home.Host
	if host.Key = maildir.PublicText(keys.Newest()); host == home.Host {
		return nil
	}
	data, err := json.Marshal(host)
	if err != nil {
		return fmt.Errorf("encode host.json: %w", err)
	}
	return durable.Replace(home.HostPath(), append(data, '\n'), 0o600)
}

func newHost(name string, keys Keys, private ed25519.PrivateKey) (*Host, error) {
	certificate, err := makeCertificate(keys, private)
	if err != nil {
		return nil, err
	}
	return &Host{name: name, keys: keys, private: private, certificate: certificate}, nil
}

// ID is the id of the host, for life.
func (h *Host) ID() string { return h.keys.ID() }

// Name is what the host calls itself.
func (h *Host) Name() string { return h.name }

// Keys are the public keys of the host.
func (h *Host) Keys() Keys { return h.keys }

// Sign signs a message with the newest key. What is signed begins with the name of
// its form, so that no signature passes for another's.
func (h *Host) Sign(message []byte) []byte { return ed25519.Sign(h.private, message) }
