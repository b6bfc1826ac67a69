package relay

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"filippo.io/age"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/go-json-experiment/json"
)

const (
	maxSealed  = 1 << 20 // bytes of an item
	maxAgeKey  = 4 << 10
	itemDigits = 32
)

// What a sealed item begins with, as far as it is always the same: one stanza for an
// X25519 key. Of more stanzas, each would cost the receiver a computation.
var (
	sealedStart = []byte("age-encryption.org/v1\n-> X25519 ")
	sealedNext  = []byte("\n--- ")
	sealedKey   = 43 + 1 + 43 // the sender's share, LF, the wrapped key
)

// ageKey is the key with which a host opens what is sealed for it.
type ageKey struct{ identity *age.X25519Identity }

// openAgeKey reads the key in a file, and makes one where there is none.
func openAgeKey(path string) (*ageKey, error) {
	data, err := durable.ReadPlain(path, maxAgeKey)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAgeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key for what is sealed: %w", err)
	}
	key, err := age.ParseX25519Identity(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return nil, fmt.Errorf("%q holds no key of age", path) // whose error may hold what it has read
	}
	return &ageKey{key}, nil
}

func makeAgeKey(path string) (*ageKey, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make the key for what is sealed: %w", err)
	}
	if err := durable.Create(path, []byte(key.String()+"\n"), 0o600); err != nil {
		return nil, err
	}
	return &ageKey{key}, nil
}

// recipient is the public half.
func (k *ageKey) recipient() string { return k.identity.Recipient().String() }

// sealed is an item: a frame that only one host can read, signed by another.
type sealed struct {
	From, To string // ids of the hosts
	ID       string
	Sig      string
	Data     []byte
}

// within is the line before the frame, inside.
type within struct {
	From string `json:"from"`
	To   string `json:"to"`
	ID   string `json:"id"`
}

// signed is what the sender signs.
func (s *sealed) signed() []byte {
	sum := sha256.Sum256(s.Data)
	return fmt.Appendf(nil, "duo/held/1\n%s\n%s\n%s\n%s\n", s.From, s.To, s.ID, hex.EncodeToString(sum[:]))
}

// seal makes an item of a frame. The same frame has the same id each time, and the id
// tells nothing of the frame to whoever has not the key.
func (k *ageKey) seal(h *identity.Host, to string, recipient age.Recipient, f link.Frame) (*sealed, error) {
	text, err := f.Text()
	if err != nil {
		return nil, err
	}
	s := &sealed{From: h.ID(), To: to, ID: k.itemID(to, text)}
	head, err := json.Marshal(within{From: s.From, To: s.To, ID: s.ID})
	if err != nil {
		return nil, fmt.Errorf("seal frame: %w", err)
	}
	var data bytes.Buffer
	w, err := age.Encrypt(&data, recipient)
	if err != nil {
		return nil, fmt.Errorf("seal frame: %w", err)
	}
	for _, part := range [][]byte{head, []byte("\n"), text} {
		if _, err := w.Write(part); err != nil {
			return nil, fmt.Errorf("seal frame: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal frame: %w", err)
	}
	if data.Len() > maxSealed {
		return nil, &Refused{CodeLarge}
	}
	s.Data = data.Bytes()
	s.Sig = base64.StdEncoding.EncodeToString(h.Sign(s.signed()))
	return s, nil
}

func (k *ageKey) itemID(to string, text []byte) string {
	mac := hmac.New(sha256.New, []byte(k.identity.String()))
	fmt.Fprintf(mac, "duo/held/id/1\n%s\n", to)
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil))[:itemDigits]
}

// checkForm refuses what no sender makes.
func (s *sealed) checkForm() error {
	switch {
	case !isID(s.From) || !isID(s.To) || s.From == s.To:
		return errors.New("it is not from one host to another")
	case !isItemID(s.ID):
		return errors.New("its id is none")
	case len(s.Data) > maxSealed:
		return errors.New("it is too large")
	}
	rest, ok := bytes.CutPrefix(s.Data, sealedStart)
	if !ok || len(rest) < sealedKey || !bytes.HasPrefix(rest[sealedKey:], sealedNext) || rest[43] != '\n' {
		return errors.New("it is not sealed for one key")
	}
	return nil
}

func isItemID(id string) bool {
	return len(id) == itemDigits && strings.Trim(id, "0123456789abcdef") == ""
}

// check reports whether the host with the keys has made the item. It looks at the
// signature before anything else is done with what is sealed.
func (s *sealed) check(keys identity.Keys) error {
	if err := s.checkForm(); err != nil {
		return err
	}
	if keys.ID() != s.From || !verify(keys, s.signed(), s.Sig) {
		return errors.New("its sender has not signed it")
	}
	return nil
}

// open gives the frame in an item that was checked.
func (k *ageKey) open(s *sealed) (link.Frame, error) {
	r, err := age.Decrypt(bytes.NewReader(s.Data), k.identity)
	if err != nil {
		return link.Frame{}, fmt.Errorf("open item: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxSealed))
	if err != nil {
		return link.Frame{}, fmt.Errorf("open item: %w", err)
	}
	head, body, _ := bytes.Cut(text, []byte("\n"))
	var in within
	if err := json.Unmarshal(head, &in); err != nil {
		return link.Frame{}, fmt.Errorf("open item: %w", err)
	}
	if in.From != s.From || in.To != s.To || in.ID != s.ID {
		return link.Frame{}, errors.New("open item: inside it is another")
	}
	return link.ParseText(body)
}

func verify(keys identity.Keys, text []byte, sig string) bool {
	raw, err := base64.StdEncoding.Strict().DecodeString(sig)
	return err == nil && !keys.IsZero() && len(raw) == ed25519.SignatureSize && ed25519.Verify(keys.Newest(), text, raw)
}
