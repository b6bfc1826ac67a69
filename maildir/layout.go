package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gofrs/flock"
)

const (
	logSuffix = ".jsonl"
	cutSuffix = ".cut"
)

// AgentsDir holds a folder for each agent.
func (h *Home) AgentsDir() string { return filepath.Join(h.Dir, "agents") }

// AgentDir is the folder of an agent; folder names are lower case.
func (h *Home) AgentDir(name string) string {
	return filepath.Join(h.AgentsDir(), strings.ToLower(name))
}

// ConversationsDir holds the logs.
func (h *Home) ConversationsDir() string { return filepath.Join(h.Dir, "conversations") }

// LogPath is the log of a conversation.
func (h *Home) LogPath(conversation string) string {
	return filepath.Join(h.ConversationsDir(), conversation+logSuffix)
}

// BlobsDir holds what messages bring.
func (h *Home) BlobsDir() string { return filepath.Join(h.Dir, "blobs") }

// TokensPath holds the hashes of tokens.
func (h *Home) TokensPath() string { return filepath.Join(h.Dir, "tokens.json") }

// StandingsPath is the file of what agents may do here, where that is less than all.
func (h *Home) StandingsPath() string { return filepath.Join(h.Dir, "standings.json") }

// RequestsDir holds the records of calls, in the folders open and done.
func (h *Home) RequestsDir() string { return filepath.Join(h.Dir, "requests") }

// OpenRequestsDir holds the records of the calls of which something can still come.
func (h *Home) OpenRequestsDir() string { return filepath.Join(h.RequestsDir(), "open") }

// DoneRequestsDir holds the records of the other calls.
func (h *Home) DoneRequestsDir() string { return filepath.Join(h.RequestsDir(), "done") }

// FarRequestsDir holds, in a folder for each other host, the records of the calls from there.
func (h *Home) FarRequestsDir() string { return filepath.Join(h.RequestsDir(), "far") }

// PeersDir holds a folder for each host that this one is linked with.
func (h *Home) PeersDir() string { return filepath.Join(h.Dir, "peers") }

// PeerDir is the folder of the linked host with a name; names of hosts are lower case.
func (h *Home) PeerDir(host string) string { return filepath.Join(h.PeersDir(), host) }

// SpoolDir holds what waits to be sent to a linked host.
func (h *Home) SpoolDir(host string) string { return filepath.Join(h.PeerDir(host), "spool") }

// ConfigPath is the configuration file, which need not exist.
func (h *Home) ConfigPath() string { return filepath.Join(h.Dir, configFile) }

// RunDir holds what belongs to a running daemon or can be made again.
func (h *Home) RunDir() string { return filepath.Join(h.Dir, "run") }

// IndexPath is the index, a cache.
func (h *Home) IndexPath() string { return filepath.Join(h.RunDir(), "index.db") }

// SearchPath is the index of what is searched, which can be made again.
func (h *Home) SearchPath() string { return filepath.Join(h.RunDir(), "search.db") }

// HostPath is the identity of the host.
func (h *Home) HostPath() string { return filepath.Join(h.Dir, hostFile) }

// KeyPath is the private key of the host.
func (h *Home) KeyPath() string { return filepath.Join(h.Dir, keyFile) }

// NewKeyPath is the private key that a rotation brings in, until it is the host's.
func (h *Home) NewKeyPath() string { return filepath.Join(h.Dir, keyFile+".new") }

// KeysPath holds the public keys that the host has had, from the first rotation on.
func (h *Home) KeysPath() string { return filepath.Join(h.Dir, "keys.jsonl") }

// AgeKeyPath is the private key with which the host opens what others keep for it.
func (h *Home) AgeKeyPath() string { return filepath.Join(h.Dir, "age.key") }

// HeldClockPath holds for how long what this host keeps for others has been kept.
func (h *Home) HeldClockPath() string { return filepath.Join(h.Dir, "held.clock") }

// LockPath is what the daemon that has the home holds locked.
func (h *Home) LockPath() string { return filepath.Join(h.RunDir(), "daemon.lock") }

// PidPath holds the process id of the daemon.
func (h *Home) PidPath() string { return filepath.Join(h.RunDir(), "daemon.pid") }

// DaemonLogPath is where a daemon that started by itself writes its log.
func (h *Home) DaemonLogPath() string { return filepath.Join(h.RunDir(), "daemon.log") }

// ClientsDir holds what client programs read from the home, and what was installed in them.
func (h *Home) ClientsDir() string { return filepath.Join(h.Dir, "clients") }

// SessionsDir holds which agent a session of a client program speaks as.
func (h *Home) SessionsDir() string { return filepath.Join(h.RunDir(), "sessions") }

// LeasesDir holds which session of an agent acts on what.
func (h *Home) LeasesDir() string { return filepath.Join(h.RunDir(), "leases") }

// maxSocketPath is less than the 107 bytes that Linux takes, and the 103 of macOS.
const maxSocketPath = 100

// ListenPath is where the daemon listens. Where the home's own path is too long for a
// socket, it is in $XDG_RUNTIME_DIR or the folder for temporary files.
func (h *Home) ListenPath() string {
	path := h.socketLink()
	if len(path) <= maxSocketPath {
		return path
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(base) || len(base) > maxSocketPath-40 {
		base = filepath.Join("/tmp", fmt.Sprintf("duo-%d", os.Getuid()))
	}
	sum := sha256.Sum256([]byte(h.canonical()))
	return filepath.Join(base, "duo-"+hex.EncodeToString(sum[:8])+".sock")
}

// SocketPath is where clients find the daemon: at ListenPath, or where the link in the
// home leads to, as a daemon with another environment has made it.
func (h *Home) SocketPath() string {
	path, link := h.ListenPath(), h.socketLink()
	target, err := os.Readlink(link)
	if path == link || err != nil {
		return path
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		return path // its daemon is gone; the next one listens where this environment says
	}
	return target
}

// LinkSocket makes a socket that is not in the home be found there, by clients with
// another environment. It changes nothing where that is so already.
func (h *Home) LinkSocket(path string) error {
	link := h.socketLink()
	if target, err := os.Readlink(link); path == link || err == nil && target == path {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("link socket: %w", err)
	}
	if err := os.Symlink(path, link); err != nil {
		return fmt.Errorf("link socket: %w", err)
	}
	return nil
}

// UnlinkSocket removes what LinkSocket has made.
func (h *Home) UnlinkSocket(path string) error {
	link := h.socketLink()
	if target, err := os.Readlink(link); err != nil || target != path {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unlink socket: %w", err)
	}
	return nil
}

// socketLink is the socket in the home, or the link to it.
func (h *Home) socketLink() string { return filepath.Join(h.canonical(), "run", "duo.sock") }

// canonical is the home's path without links, so that a daemon and a client that know
// the home by different paths meet at one socket.
func (h *Home) canonical() string {
	dir, err := filepath.EvalSymlinks(h.Dir)
	if err != nil {
		return h.Dir
	}
	return dir
}

// ErrRunning means that a daemon holds this home already.
var ErrRunning = errors.New("a daemon is already running")

// LockDaemon takes the home for one daemon, until release is called or the process
// ends. It returns ErrRunning where another one has it.
func (h *Home) LockDaemon() (release func() error, err error) {
	return h.lock(h.LockPath(), ErrRunning)
}

// lock locks the file path, and returns the error taken where somebody else has it.
func (h *Home) lock(path string, taken error) (release func() error, err error) {
	if err := durable.CheckRegular(path); err != nil {
		return nil, fmt.Errorf("lock home: %w; remove it", err)
	}
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock home: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("home %q: %w", h.Dir, taken)
	}
	return lock.Unlock, nil
}

// Agents lists the folder names of the agents, sorted. A folder whose name cannot
// be an agent's is left out.
func (h *Home) Agents() ([]string, error) {
	var names []string
	for e, err := range durable.Entries(h.AgentsDir()) {
		if err != nil {
			return nil, fmt.Errorf("list agents: %w", err)
		}
		if e.IsDir() && IsAgentFolder(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// IsAgentFolder reports whether a folder of the name can be an agent's.
func IsAgentFolder(name string) bool {
	return envelope.CheckName(name) == nil && strings.ToLower(name) == name
}

// Conversations lists the ids of the conversations, sorted. What is no plain file is
// left out.
func (h *Home) Conversations() ([]string, error) {
	var ids []string
	for e, err := range durable.Entries(h.ConversationsDir()) {
		if err != nil {
			return nil, fmt.Errorf("list conversations: %w", err)
		}
		if id, ok := LogID(e.Name()); ok && e.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// LogName is the file name of a conversation's log.
func LogName(conversation string) string { return conversation + logSuffix }

// LogID returns the conversation whose log has the file name.
func LogID(name string) (string, bool) {
	id, ok := strings.CutSuffix(name, logSuffix)
	if !ok {
		return "", false
	}
	parsed, err := envelope.ParseID(id)
	return parsed, err == nil && parsed == id
}

// ForkPath is the file with the lines that were cut off a copy of a log when its original
// had gone another way, the nth time.
func (h *Home) ForkPath(conversation string, n int) string {
	return filepath.Join(h.ConversationsDir(), fmt.Sprintf("%s.fork-%d%s", conversation, n, logSuffix))
}

// CutPath is where ForkPath is until what has to be done about its lines is done.
func (h *Home) CutPath(conversation string, n int) string {
	return filepath.Join(h.ConversationsDir(), fmt.Sprintf("%s.fork-%d%s", conversation, n, cutSuffix))
}

// ForkID returns the conversation and the number of a file that ForkPath, or with cut
// CutPath, names.
func ForkID(name string) (conversation string, n int, cut, ok bool) {
	base, done := strings.CutSuffix(name, logSuffix)
	if !done {
		if base, cut = strings.CutSuffix(name, cutSuffix); !cut {
			return "", 0, false, false
		}
	}
	id, number, found := strings.Cut(base, ".fork-")
	parsed, err := envelope.ParseID(id)
	n, err2 := strconv.Atoi(number)
	return id, n, cut, found && err == nil && parsed == id && err2 == nil && n > 0
}

// ProofsPath is the file with what the origin of a conversation has signed of its log.
func (h *Home) ProofsPath(host, conversation string) string {
	return filepath.Join(h.PeerDir(host), "proofs", conversation+logSuffix)
}

// RemoveTemps deletes what crashes have left unfinished in a folder.
func RemoveTemps(dir string) error {
	return removeTemps(dir, func(fs.FileInfo) bool { return true })
}

// RemoveTempsBefore is RemoveTemps for a folder in which somebody may be writing: what
// was written since before stays.
func RemoveTempsBefore(dir string, before time.Time) error {
	return removeTemps(dir, func(info fs.FileInfo) bool { return info.ModTime().Before(before) })
}

func removeTemps(dir string, left func(fs.FileInfo) bool) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean folder: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("clean folder: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, durable.TempPrefix) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && left(info) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("clean folder: %w", err)
			}
		}
	}
	return nil
}
