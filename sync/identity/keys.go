package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/claude-duo/duo/maildir"
	"github.com/go-json-experiment/json"
)

const (
	// MaxKeys is how many keys a host can have had.
	MaxKeys    = 32
	maxKeyLine = 512 // bytes of a key's line
)

var (
	// ErrChangedKey means that a host shows keys that do not follow from those that
	// are pinned: it is another host, or it has lost its key.
	ErrChangedKey = errors.New("changed key")
	// ErrOldKey means that a host shows a key that it has replaced since.
	ErrOldKey = errors.New("old key")
)

// Keys are the public keys of a host from the first to the newest, each later one
// signed by the one before and by itself. The zero value is nobody's.
type Keys struct{ steps []step }

type step struct {
	key      ed25519.PublicKey
	old, new []byte // signatures by the key before and by this one; nil for the first
}

// stepLine is a step as text.
type stepLine struct {
	N   int    `json:"n"`
	Key string `json:"key"`
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// FirstKeys are the keys of a host that has had no other.
func FirstKeys(public ed25519.PublicKey) Keys {
	return Keys{steps: []step{{key: bytes.Clone(public)}}}
}

// ParseKeys reads what Text has written, and checks every signature.
func ParseKeys(text []byte) (Keys, error) {
	var k Keys
	for line := range bytes.Lines(text) {
		if len(k.steps) == MaxKeys {
			return Keys{}, fmt.Errorf("read keys: more than %d", MaxKeys)
		}
		s, err := k.parseStep(line)
		if err != nil {
			return Keys{}, fmt.Errorf("read key %d: %w", len(k.steps)+1, err)
		}
		k.steps = append(k.steps, s)
	}
	if len(k.steps) == 0 {
		return Keys{}, errors.New("read keys: there is none")
	}
	return k, nil
}

// parseStep reads the line of the key behind those of k.
func (k Keys) parseStep(line []byte) (s step, err error) {
	if len(line) > maxKeyLine || !bytes.HasSuffix(line, []byte("\n")) {
		return step{}, fmt.Errorf("want a line of at most %d bytes", maxKeyLine)
	}
	var l stepLine
	if err := json.Unmarshal(line, &l, json.RejectUnknownMembers(true)); err != nil {
		return step{}, err
	}
	if l.N != len(k.steps)+1 {
		return step{}, fmt.Errorf("has number %d", l.N)
	}
	if s.key, err = maildir.ParsePublic(l.Key); err != nil {
		return step{}, err
	}
	if l.N == 1 {
		if l.Old != "" || l.New != "" {
			return step{}, errors.New("nobody signs the first key")
		}
		return s, nil
	}
	var errOld, errNew error
	s.old, errOld = base64.StdEncoding.Strict().DecodeString(l.Old)
	s.new, errNew = base64.StdEncoding.Strict().DecodeString(l.New)
	signed := k.rotation(s.key)
	if errOld != nil || errNew != nil || !ed25519.Verify(k.Newest(), signed, s.old) || !ed25519.Verify(s.key, signed, s.new) {
		return step{}, errors.New("is not signed by the key before and itself")
	}
	return s, nil
}

// Text is one line of JSON for each key.
func (k Keys) Text() []byte {
	var text []byte
	for i, s := range k.steps {
		line := stepLine{N: i + 1, Key: maildir.PublicText(s.key)}
		if i > 0 {
			line.Old = base64.StdEncoding.EncodeToString(s.old)
			line.New = base64.StdEncoding.EncodeToString(s.new)
		}
		data, err := json.Marshal(line)
		if err != nil {
			panic(fmt.Sprintf("encode a key: %v", err)) // numbers and ASCII always encode
		}
		text = append(append(text, data...), '\n')
	}
	return text
}

// IsZero reports whether there is no key.
func (k Keys) IsZero() bool { return len(k.steps) == 0 }

// Len is how many keys there are.
func (k Keys) Len() int { return len(k.steps) }

// ID is the id of the host, which follows from its first key.
func (k Keys) ID() string {
	if k.IsZero() {
		return ""
	}
	return maildir.HostID(k.steps[0].key)
}

// Newest is the key that the host has now, nil for the zero Keys.
func (k Keys) Newest() ed25519.PublicKey {
	if k.IsZero() {
		return nil
	}
	return k.steps[len(k.steps)-1].key
}

// Verify reports whether a message is signed by one of the keys: a line that a host has
// signed stays signed when it has a new key.
func (k Keys) Verify(message, signature []byte) bool {
	for i := len(k.steps) - 1; i >= 0; i-- {
		if ed25519.Verify(k.steps[i].key, message, signature) {
			return true
		}
	}
	return false
}

// VerifyText is Verify for a signature in base64, as lines have it.
func (k Keys) VerifyText(message []byte, signature string) bool {
	sig, err := base64.StdEncoding.Strict().DecodeString(signature)
	return err == nil && k.Verify(message, sig)
}

// Follow reports whether k can be the keys of the host whose keys were pinned: the
// same, or more. The error is ErrOldKey or ErrChangedKey.
func (k Keys) Follow(pinned Keys) error {
	if k.IsZero() || pinned.IsZero() {
		return ErrChangedKey
	}
	for i := range min(len(k.steps), len(pinned.steps)) {
		if !k.steps[i].key.Equal(pinned.steps[i].key) {
			return ErrChangedKey
		}
	}
	if len(k.steps) < len(pinned.steps) {
		return ErrOldKey
	}
	return nil
}

// rotate returns k with a new key behind the newest one, whose private half is old.
func (k Keys) rotate(old, fresh ed25519.PrivateKey) (Keys, error) {
	if len(k.steps) >= MaxKeys {
		return Keys{}, fmt.Errorf("this host has had %d keys already", MaxKeys)
	}
	public := fresh.Public().(ed25519.PublicKey)
	signed := k.rotation(public)
	s := step{key: public, old: ed25519.Sign(old, signed), new: ed25519.Sign(fresh, signed)}
	return Keys{steps: append(k.steps[:len(k.steps):len(k.steps)], s)}, nil
}

// rotation is what is signed when next takes the place of the newest key.
func (k Keys) rotation(next ed25519.PublicKey) []byte {
	var text []byte
	for _, part := range []string{
		"duo/key/1", k.ID(), strconv.Itoa(len(k.steps) + 1), maildir.PublicText(k.Newest()), maildir.PublicText(next),
	} {
		text = append(append(text, part...), '\n')
	}
	return text
}
