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
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gofrs/flock"
)

const logSuffix = ".jsonl"

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

// ConfigPath is the configuration file, which need not exist.
func (h *Home) ConfigPath() string { return filepath.Join(h.Dir, configFile) }

// RunDir holds what belongs to a running daemon or can be made again.
func (h *Home) RunDir() string { return filepath.Join(h.Dir, "run") }

// IndexPath is the index, a cache.
func (h *Home) IndexPath() string { return filepath.Join(h.RunDir(), "index.db") }

// PidPath holds the process id of the daemon.
func (h *Home) PidPath() string { return filepath.Join(h.RunDir(), "daemon.pid") }

// DaemonLogPath is where a daemon that started by itself writes its log.
func (h *Home) DaemonLogPath() string { return filepath.Join(h.RunDir(), "daemon.log") }

// SessionsDir holds which agent a session of a client program speaks as.
func (h *Home) SessionsDir() string { return filepath.Join(h.RunDir(), "sessions") }

// maxSocketPath is less than the 107 bytes that Linux takes, and the 103 of macOS.
const maxSocketPath = 100

// SocketPath is the socket of the daemon. Where the home's own path is too long for
// a socket, it is in $XDG_RUNTIME_DIR or the folder for temporary files.
func (h *Home) SocketPath() string {
	path := filepath.Join(h.RunDir(), "duo.sock")
	if len(path) <= maxSocketPath {
		return path
	}
	if target, err := os.Readlink(path); err == nil {
		return target // a daemon with another environment is listening there
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(base) || len(base) > maxSocketPath-40 {
		base = filepath.Join("/tmp", fmt.Sprintf("duo-%d", os.Getuid()))
	}
	sum := sha256.Sum256([]byte(h.Dir))
	return filepath.Join(base, "duo-"+hex.EncodeToString(sum[:8])+".sock")
}

// LinkSocket makes a socket that is not in the home be found there, by clients with
// another environment.
func (h *Home) LinkSocket(path string) error {
	link := filepath.Join(h.RunDir(), "duo.sock")
	if path == link {
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

// ErrRunning means that a daemon holds this home already.
var ErrRunning = errors.New("a daemon is already running")

// LockDaemon takes the home for one daemon, until release is called or the process
// ends. It returns ErrRunning where another one has it.
func (h *Home) LockDaemon() (release func() error, err error) {
	lock := flock.New(filepath.Join(h.RunDir(), "daemon.lock"), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock home: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("home %q: %w", h.Dir, ErrRunning)
	}
	return lock.Unlock, nil
}

// Agents lists the folder names of the agents, sorted. A folder whose name cannot
// be an agent's is left out.
func (h *Home) Agents() ([]string, error) {
	entries, err := os.ReadDir(h.AgentsDir())
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && envelope.CheckName(e.Name()) == nil && strings.ToLower(e.Name()) == e.Name() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Conversations lists the ids of the conversations, sorted. What is no plain file is
// left out.
func (h *Home) Conversations() ([]string, error) {
	dir, err := os.Open(h.ConversationsDir())
	if err != nil {
		return nil, fmt.Errorf("list conversations: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list conversations: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := LogID(e.Name()); ok && e.Type().IsRegular() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// LogID returns the conversation whose log has the file name.
func LogID(name string) (string, bool) {
	id, ok := strings.CutSuffix(name, logSuffix)
	if !ok {
		return "", false
	}
	parsed, err := envelope.ParseID(id)
	return parsed, err == nil && parsed == id
}

// RemoveTemps deletes what crashes have left unfinished in a folder.
func RemoveTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("clean folder: %w", err)
			}
		}
	}
	return nil
}
