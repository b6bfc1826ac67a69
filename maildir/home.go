// Package maildir is what lies on disk: the home of a host, with its agents'
// folders and its conversations. Any Go program can use it and the packages below
// it, with a daemon running or without one. docs/layout.md states the layout.
package maildir

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// LayoutVersion is the version of the layout that this package reads and writes.
const LayoutVersion = 1

const (
	hostFile     = "host.json"
	keyFile      = "key"
	maxHostFile  = 64 << 10 // of host.json and of the key
	publicPrefix = "ed25519:"
)

var (
	// ErrNoHome means that there is no home in the folder yet.
	ErrNoHome = errors.New("no duo home here")
	// ErrUnsafe means that the home could be read or changed by other users.
	ErrUnsafe = errors.New("home is not safe")
)

// Home is the folder of one host. Its methods may be used by several goroutines.
type Home struct {
	Dir    string
	Host   Host
	Config Config
}

// Host is the identity of a host, as host.json tells it.
type Host struct {
	Name    string `json:"name"`
	ID      string `json:"id"`  // base32 of SHA-256("duo/host/1" ‖ first public key), for life
	Key     string `json:"key"` // "ed25519:" and the newest public key in base64
	Version int    `json:"version"`
}

// Address is the address of the agent name on this host.
func (h *Home) Address(name string) envelope.Address {
	return envelope.Address{Name: name, Host: h.Host.Name}
}

// DefaultDir is where the home of this user is: $DUO_HOME, else $XDG_DATA_HOME/duo,
// else ~/.local/share/duo.
func DefaultDir() (string, error) {
	if dir := os.Getenv("DUO_HOME"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "duo"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the home folder: %w; set DUO_HOME", err)
	}
	return filepath.Join(user, ".local", "share", "duo"), nil
}

// Open opens the home in dir. It refuses one that other users can get into, with
// ErrUnsafe, and returns ErrNoHome where there is none.
func Open(dir string) (*Home, error) {
	if err := CheckSafe(dir); err != nil {
		return nil, err
	}
	data, err := durable.ReadPlain(filepath.Join(dir, hostFile), maxHostFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", dir, ErrNoHome)
	}
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	h := &Home{Dir: dir}
	if err := json.Unmarshal(data, &h.Host); err != nil {
		return nil, fmt.Errorf("read %q: %w", filepath.Join(dir, hostFile), err)
	}
	if h.Host.Version != LayoutVersion {
		return nil, fmt.Errorf("home %q has layout version %d, this program knows version %d", dir, h.Host.Version, LayoutVersion)
	}
	if err := envelope.CheckHost(h.Host.Name); err != nil {
		return nil, fmt.Errorf("read %q: %w", filepath.Join(dir, hostFile), err)
	}
	if h.Config, err = ReadConfig(h.ConfigPath()); err != nil {
		return nil, err
	}
	if name := h.Config.Host.Name; name != "" && name != h.Host.Name {
		return nil, fmt.Errorf("%q says host.name is %q, but this host is %q and keeps its name", h.ConfigPath(), name, h.Host.Name)
	}
	return h, nil
}

// Init opens the home in dir, and makes what is missing of it. Several processes
// may do so at once. A crash leaves a home that the next Init completes.
func Init(dir string) (*Home, error) {
	if err := durable.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := CheckSafe(dir); err != nil {
		return nil, err
	}
	for _, sub := range []string{"agents", "conversations", "run"} {
		if err := durable.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	h, err := Open(dir)
	if !errors.Is(err, ErrNoHome) {
		return h, err
	}
	if err := createHost(dir); err != nil {
		return nil, err
	}
	return Open(dir)
}

func createHost(dir string) error {
	config, err := ReadConfig(filepath.Join(dir, configFile))
	if err != nil {
		return err
	}
	key, err := hostKey(filepath.Join(dir, keyFile))
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	name := config.Host.Name
	if name == "" {
		name = machineName()
	}
	data, err := json.Marshal(Host{
		Name: name, ID: HostID(public), Version: LayoutVersion, Key: PublicText(public),
	})
	if err != nil {
		return fmt.Errorf("encode host.json: %w", err)
	}
	err = durable.Create(filepath.Join(dir, hostFile), append(data, '\n'), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was faster, with the same key
	}
	return err
}

// hostKey reads the private key of the host, and makes it first where there is none.
func hostKey(path string) (ed25519.PrivateKey, error) {
	_, fresh, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	if err := durable.Create(path, KeyText(fresh), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return ReadKey(path)
}

// ReadKey reads a private key as it lies in the home.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	data, err := durable.ReadPlain(path, maxHostFile)
	if err != nil {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("host key %q: want %d bytes in base64", path, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// KeyText is a private key as it lies in the home.
func KeyText(key ed25519.PrivateKey) []byte {
	return []byte(base64.StdEncoding.EncodeToString(key.Seed()) + "\n")
}

// HostID is the id of the host whose first key is public.
func HostID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(append([]byte("duo/host/1"), public...))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// PublicText is a public key as host.json tells it.
func PublicText(public ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(public)
}

// ParsePublic reads what PublicText has written.
func ParsePublic(text string) (ed25519.PublicKey, error) {
	encoded, ok := strings.CutPrefix(text, publicPrefix)
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("public key %.80q: want %q and %d bytes in base64", text, publicPrefix, ed25519.PublicKeySize)
	}
	return key, nil
}

// machineName makes a host name of the machine's, "local" where it has no usable one.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "local"
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if envelope.CheckHost(name) != nil {
		return "local"
	}
	return name
}

// CheckSafe refuses, with ErrUnsafe, a folder that is not of this user alone.
func CheckSafe(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%q: %w", dir, ErrNoHome)
	case err != nil:
		return fmt.Errorf("open home: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%w: %q is not a folder", ErrUnsafe, dir)
	case !durable.OwnedBySelf(info):
		return fmt.Errorf("%w: %q belongs to another user", ErrUnsafe, dir)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %q has mode %04o, others can get in; run: chmod 700 %q", ErrUnsafe, dir, info.Mode().Perm(), dir)
	}
	return nil
}
