package relay

import (
	"bytes"
	"encoding/base64"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/go-json-experiment/json"
)

// Tap lets a test see what a relay splices. It is set before anything is.
func (r *Relay) Tap(see func([]byte)) { r.tap = see }

// ParseToken reads a token as a relay does.
func ParseToken(text string) (string, error) {
	t, err := parseToken(text)
	return t.String(), err
}

// TokenLine is how long the line with a token is.
var TokenLine = tokenLine

// Opener opens what is sealed for a host, by another one that has signed it or not.
type Opener struct {
	sender, receiver *identity.Host
	key              *ageKey
}

// NewOpener makes a sender for a receiver.
func NewOpener(t testing.TB, receiver *identity.Host, path string) *Opener {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "sender"))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	key, err := openAgeKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return &Opener{sender, receiver, key}
}

// Plain is what is sealed of a frame.
func (o *Opener) Plain(frame string) []byte {
	head, err := json.Marshal(within{From: o.sender.ID(), To: o.receiver.ID(), ID: o.id()})
	if err != nil {
		panic(err)
	}
	return append(append(head, '\n'), frame...)
}

// Seal seals for the receiver whatever it is given.
func (o *Opener) Seal(plain []byte) []byte {
	var data bytes.Buffer
	w, err := age.Encrypt(&data, o.key.identity.Recipient())
	if err == nil {
		_, err = w.Write(plain)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return data.Bytes()
}

func (o *Opener) id() string { return o.key.itemID(o.receiver.ID(), nil) }

// Open opens bytes that the sender has signed, or somebody else.
func (o *Opener) Open(data []byte, signed bool) (link.Frame, error) {
	s := &sealed{From: o.sender.ID(), To: o.receiver.ID(), ID: o.id(), Data: data}
	by := o.receiver
	if signed {
		by = o.sender
	}
	s.Sig = base64.StdEncoding.EncodeToString(by.Sign(s.signed()))
	if err := s.check(o.sender.Keys()); err != nil {
		return link.Frame{}, err
	}
	return o.key.open(s)
}

// RecipientLine is what a host says of itself that has a key of age.
func RecipientLine(h *identity.Host, key string) []byte {
	parsed, err := age.ParseX25519Identity(strings.TrimSpace(key))
	if err != nil {
		panic(err)
	}
	line, err := json.Marshal(recipientOf(h, &ageKey{parsed}))
	if err != nil {
		panic(err)
	}
	return line
}
