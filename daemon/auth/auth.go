// Package auth knows who may: the tokens of the door for programs that are not on this
// machine's socket, and of people who have signed in on the page.
//
// A token is duo_a_NAME_SECRET, an agent's own, which stands in its folder and nowhere
// else, or duo_t_ID_SECRET, one that was made with a purpose, or duo_s_ID_SECRET, a
// person's, which expires; of these two the home has only the hash. The secret is 256
// random bits. A token is compared in constant time.
package auth

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	tokenFile    = "token" // in an agent's folder
	maxTokenFile = 1 << 10
	maxTokens    = 4096
	maxTokenList = 4 << 20
	maxLabel     = 200
	prefix       = "duo_"
	own          = "a" // kinds
	made         = "t"
)

var (
	// ErrUnknown means that a token is wrong, or was revoked.
	ErrUnknown = errors.New("the token is not known")
	// ErrRefused means that no token is made, and why.
	ErrRefused = errors.New("no token is made")
	// ErrNotFound means that there is no token with an id.
	ErrNotFound = errors.New("no such token")
)

// Grant is what a token lets its bearer do: speak for an agent, or where there is none,
// only watch, unless it is the operator's.
type Grant struct {
	Agent string
	Role  Role   // of a person who has signed in
	ID    string // of the token; of an agent's own: the agent's name
}

// Token describes a token without its secret.
type Token struct {
	ID        string `json:"id"`              // of an agent's own: the agent's name
	Agent     string `json:"agent,omitempty"` // empty for an observer
	Label     string `json:"label,omitempty"`
	Role      Role   `json:"role,omitempty"`      // of a person who has signed in
	CreatedAt int64  `json:"createdAt"`           // Unix milliseconds
	ExpiresAt int64  `json:"expiresAt,omitempty"` // Unix milliseconds; 0 for never
	Hash      string `json:"hash,omitempty"`      // SHA-256 of the whole token, in hex
}

// Keeper keeps the tokens of a home. Its methods may be used by several goroutines.
type Keeper struct {
	home *maildir.Home
	now  func() time.Time

	mu      sync.Mutex
	tokens  []Token
	broken  error // the list cannot be read, and is not written over
	logins  []login
	guesses guesses
}

// Open reads the tokens of a home. Where the list cannot be read, only agents' own
// tokens are good until it is repaired; the error says so.
func Open(home *maildir.Home, now func() time.Time) (*Keeper, error) {
	k := &Keeper{home: home, now: now}
	data, err := durable.ReadPlain(home.TokensPath(), maxTokenList)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k.tokens)
	}
	if err != nil {
		k.tokens, k.broken = nil, fmt.Errorf("read tokens %q: %w", home.TokensPath(), err)
	}
	return k, k.broken
}

// Check returns what a token lets its bearer do, and ErrUnknown for one that is wrong or
// has expired.
func (k *Keeper) Check(token string) (Grant, error) {
	kind, id, ok := split(token)
	if !ok {
		return Grant{}, ErrUnknown
	}
	hash := digest(token)
	if kind == own {
		text, err := k.read(id)
		if err != nil || subtle.ConstantTimeCompare([]byte(digest(text)), []byte(hash)) != 1 {
			return Grant{}, ErrUnknown
		}
		return Grant{Agent: id, ID: id}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now().UnixMilli()
	for _, t := range k.tokens {
		if t.ID == id && subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) == 1 && !t.expired(now) {
			return Grant{Agent: t.Agent, Role: t.Role, ID: id}, nil
		}
	}
	return Grant{}, ErrUnknown
}

// split takes a token apart.
func split(token string) (kind, id string, ok bool) {
	rest, ok := strings.CutPrefix(token, prefix)
	end := strings.LastIndexByte(rest, '_')
	if !ok || end < 0 || len(token) > maxTokenFile {
		return "", "", false
	}
	kind, id, ok = strings.Cut(rest[:end], "_")
	switch {
	case !ok:
	case kind == own:
		return kind, id, envelope.CheckName(id) == nil
	case kind == made || kind == session:
		return kind, id, id != ""
	}
	return "", "", false
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

// random returns n bytes of randomness as text without "_".
func random(n int) string {
	data := make([]byte, n)
	_, _ = rand.Read(data) // it never fails
	return strings.ToLower(letters.EncodeToString(data))
}

func (k *Keeper) path(agent string) string { return filepath.Join(k.home.AgentDir(agent), tokenFile) }

// read reads an agent's own token.
func (k *Keeper) read(agent string) (string, error) {
	info, err := os.Lstat(k.path(agent))
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others can read it: run: chmod 600 %q", k.path(agent))
	}
	if err != nil {
		return "", err
	}
	data, err := durable.ReadPlain(k.path(agent), maxTokenFile)
	text := strings.TrimSpace(string(data))
	if kind, id, ok := split(text); err == nil && (!ok || kind != own || !strings.EqualFold(id, agent)) {
		err = fmt.Errorf("%q has no token of the agent", k.path(agent))
	}
	return text, err
}

// Own returns an agent's own token, and makes one where it has none.
func (k *Keeper) Own(agent string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, err := k.read(agent)
	if errors.Is(err, fs.ErrNotExist) {
		text = prefix + own + "_" + strings.ToLower(agent) + "_" + random(32)
		err = durable.Create(k.path(agent), []byte(text+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("token of agent %q: %w", agent, err)
	}
	return text, nil
}

// Create makes a token that speaks for an agent or, for an empty name, is an
// observer's. Its text is returned and not kept.
func (k *Keeper) Create(agent, label string) (text string, t Token, err error) {
	if len(label) > maxLabel || strings.ContainsAny(label, "\r\n\x00") {
		return "", Token{}, fmt.Errorf("%w: label: want one line of at most %d bytes", ErrRefused, maxLabel)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(made, Token{Agent: agent, Label: label}, k.unexpired())
}

// add makes a token of a kind beside others. The caller holds the lock.
func (k *Keeper) add(kind string, t Token, others []Token) (text string, _ Token, err error) {
	if len(others) >= maxTokens {
		return "", Token{}, fmt.Errorf("%w: there are %d tokens, the most there can be: revoke one", ErrRefused, len(others))
	}
	t.ID, t.CreatedAt = random(5), k.now().UnixMilli()
	text = prefix + kind + "_" + t.ID + "_" + random(32)
	t.Hash = digest(text)
	if err := k.write(append(others, t)); err != nil {
		return "", Token{}, err
	}
	t.Hash = ""
	return text, t, nil
}

// write puts a list in place of the present one. The caller holds the lock.
func (k *Keeper) write(tokens []Token) error {
	if k.broken != nil {
		return k.broken
	}
	if err := durable.ReplaceJSON(k.home.TokensPath(), tokens, 0o600); err != nil {
		return err
	}
	k.tokens = tokens
	return nil
}

// List lists the tokens that were made, and of some agents those that have an own one,
// without their secrets, oldest first.
func (k *Keeper) List(agents []string) []Token {
	k.mu.Lock()
	list := k.unexpired()
	k.mu.Unlock()
	for i := range list {
		list[i].Hash = ""
	}
	for _, name := range agents {
		if info, err := os.Lstat(k.path(name)); err == nil {
			list = append(list, Token{ID: name, Agent: name, Label: "its own", CreatedAt: info.ModTime().UnixMilli()})
		}
	}
	slices.SortStableFunc(list, func(a, b Token) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Revoke makes a token worth nothing. The id of an agent's own one is its name; the
// agent gets another one when it asks.
func (k *Keeper) Revoke(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(k.tokens), func(t Token) bool { return t.ID == id })
	if len(rest) < len(k.tokens) {
		return k.write(rest)
	}
	if envelope.CheckName(id) != nil {
		return ErrNotFound
	}
	err := os.Remove(k.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err == nil {
		err = durable.SyncDir(k.home.AgentDir(id))
	}
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}
