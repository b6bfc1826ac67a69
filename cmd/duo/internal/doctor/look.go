package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// Host is what is known of a host before its files are looked at.
type Host struct {
	Home      *maildir.Home
	Version   string      // of this program
	Autostart bool        // commands may start a daemon
	Status    *api.Status // what the daemon says of itself, nil where none answers
	Silence   error       // why none answers
	Peers     []api.Peer  // as the daemon knows them
	Now       time.Time
}

// Look looks at a host. It changes nothing.
func Look(h Host) []Finding {
	list := []Finding{Fine("home", "%s, host %s", h.Home.Dir, h.Home.Host.Name)}
	list = append(list, h.daemon()...)
	list = append(list, h.permissions(), h.disk(), space(h.Home.Dir), h.watching(), h.clock(), h.index())
	list = append(list, h.mail()...)
	list = append(list, h.sessions())
	list = append(list, h.links()...)
	list = append(list, h.wakes()...)
	return append(list, h.log())
}

// wakes finds wake commands of agents that are not here: nobody is woken by them.
func (h Host) wakes() []Finding {
	var list []Finding
	for _, name := range slices.Sorted(maps.Keys(h.Home.Config.Wake)) {
		_, err := os.Stat(h.Home.AgentDir(name))
		if h.Home.Config.Wake[name] != "" && errors.Is(err, os.ErrNotExist) {
			list = append(list, Warning("wake", "there is a command that wakes %s, and no such agent", name).WithNext("duo who --here"))
		}
	}
	return list
}

// NoHome is the finding of a home that cannot be opened, because of err.
func NoHome(dir string, err error) []Finding {
	switch {
	case errors.Is(err, maildir.ErrNoHome):
		return []Finding{Warning("home", "there is none at %s yet", dir).WithNext("duo up"), space(dir)}
	case errors.Is(err, maildir.ErrUnsafe):
		f := Failure("home", "%v", err).WithNext("ls -ld %s", frame.ShellWord(dir))
		if info, err := os.Stat(dir); err == nil && info.IsDir() && durable.OwnedBySelf(info) {
			f.Next = "chmod 700 " + frame.ShellWord(dir)
		}
		return []Finding{f}
	case errors.Is(err, maildir.ErrConfig):
		path := (&maildir.Home{Dir: dir}).ConfigPath()
		return []Finding{Failure("config", "%v", err).WithNext("cat %s", frame.ShellWord(path))}
	}
	return []Finding{Failure("home", "%v", err).WithNext("ls -la %s", frame.ShellWord(dir)), space(dir)}
}

// daemon tells whether it runs, is of this version, and listens where it should.
func (h Host) daemon() []Finding {
	if h.Status == nil {
		return []Finding{h.silent()}
	}
	s := h.Status
	list := []Finding{Fine("daemon", "pid %d, version %s, since %s", s.PID, s.Version, time.UnixMilli(s.StartedAt).UTC().Format(time.RFC3339))}
	if s.Version != h.Version {
		list[0] = Warning("daemon", "it is version %s, and this program %s: the next command starts the new one once the old one is stopped", s.Version, h.Version).
			WithNext("duo down")
	}
	if path := h.Home.SocketPath(); filepath.Dir(path) != h.Home.RunDir() {
		list = append(list, Fine("socket", "%s, as the path of the home is too long for one", path))
	}
	for _, problem := range s.Problems {
		list = append(list, Warning("problem", "%s", problem).WithNext("duo config list"))
	}
	return list
}

// silent tells why no daemon answers.
func (h Host) silent() Finding {
	release, err := func() error { return nil }, error(nil)
	if !durable.Missing(h.Home.LockPath()) { // a daemon has been here
		release, err = h.Home.LockDaemon()
	}
	switch {
	case errors.Is(err, maildir.ErrRunning) && forbidden(h.Silence):
		return Warning("daemon", "it runs, but this program may use no sockets, as in a sandbox: what is sent waits in the outbox, and files say what came").
			WithNext("duo inbox")
	case errors.Is(err, maildir.ErrRunning):
		return Failure("daemon", "a process has the home and does not answer: %v", h.Silence).WithNext("tail %s", frame.ShellWord(h.Home.DaemonLogPath()))
	case err != nil:
		return Failure("daemon", "%v", err).WithNext("ls -la %s", frame.ShellWord(h.Home.RunDir()))
	}
	if err := release(); err != nil {
		return Failure("daemon", "%v", err)
	}
	if !h.Autostart {
		return Warning("daemon", "none runs, and commands start none: DUO_AUTOSTART is 0").WithNext("duo up")
	}
	return Fine("daemon", "none runs; the next command that needs one starts it")
}

func forbidden(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, fs.ErrPermission)
}

// permissions tells of secrets that others can read.
func (h Host) permissions() Finding {
	secrets := []string{h.Home.KeyPath(), h.Home.NewKeyPath(), h.Home.AgeKeyPath(), h.Home.TokensPath()}
	agents, err := h.Home.Agents()
	if err != nil {
		return Failure("permissions", "%v", err)
	}
	for _, name := range agents {
		secrets = append(secrets, filepath.Join(h.Home.AgentDir(name), "token"))
	}
	for _, path := range secrets {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return Failure("permissions", "%v", err)
		case info.Mode().Perm()&0o077 != 0:
			return Failure("permissions", "%s has mode %04o: it is a secret", path, info.Mode().Perm()).WithNext("chmod 600 %s", frame.ShellWord(path))
		case !durable.OwnedBySelf(info):
			return Failure("permissions", "%s belongs to another user", path).WithNext("ls -l %s", frame.ShellWord(path))
		}
	}
	return Fine("permissions", "the home and its secrets are for this user alone")
}

// disk tells of a file system on which duo cannot keep what it promises.
func (h Host) disk() Finding {
	kind, err := durable.Remote(h.Home.Dir)
	switch {
	case err != nil:
		return Failure("file system", "%v", err)
	case kind != "":
		return Warning("file system", "%s tells of no changes, so duo looks every %s, and its locks are not reliable: move the home to a local disk", kind, h.Home.Config.Watch.Every).
			WithNext("duo config path")
	}
	return Fine("file system", "local")
}

const (
	little = 512 << 20 // bytes
	none   = 64 << 20
	few    = 10_000 // files
)

// space tells how much room there is at a path, or where it would be made.
func space(path string) Finding {
	left, err := durable.SpaceAt(path)
	for errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		left, err = durable.SpaceAt(path)
	}
	if err != nil {
		return Failure("space", "%v", err)
	}
	f := room(left)
	if f.Level != OK {
		f.Next = "df -h " + frame.ShellWord(path)
	}
	return f
}

func room(left durable.Space) Finding {
	text := fmt.Sprintf("%d MB left", left.Bytes>>20)
	if !left.Any {
		text += fmt.Sprintf(", %d files", left.Files)
	}
	switch {
	case left.Bytes < none || !left.Any && left.Files < few/100:
		return Failure("space", "%s: nothing can be stored soon", text)
	case left.Bytes < little || !left.Any && left.Files < few:
		return Warning("space", "%s", text)
	}
	return Fine("space", "%s", text)
}

// watching tells how the daemon notices files, and whether the system lets it.
func (h Host) watching() Finding {
	if h.Status != nil && h.Status.Watching != "events" && !h.Home.Config.Watch.Poll {
		return Warning("watching", "the daemon looks every %s instead of being told of changes", h.Home.Config.Watch.Every).
			WithNext("grep polling %s", frame.ShellWord(h.Home.DaemonLogPath()))
	}
	agents, err := h.Home.Agents()
	if err != nil {
		return Failure("watching", "%v", err)
	}
	return watches(len(agents), limitOf("max_user_watches"))
}

// watches tells whether the system's limit is enough for so many agents. A limit of 0 is
// not known.
func watches(agents, limit int) Finding {
	need := 2*agents + 2
	switch {
	case limit == 0:
		return Fine("watching", "%d folders", need)
	case need > limit/2: // others of this user have theirs
		return Warning("watching", "%d folders are to be watched, and the system allows this user %d", need, limit).
			WithNext("sudo sysctl fs.inotify.max_user_watches=%d", max(524288, 4*need))
	}
	return Fine("watching", "%d folders, of %d that the system allows", need, limit)
}

// limitOf reads a limit of inotify, 0 where there is none.
func limitOf(name string) int {
	data, err := os.ReadFile("/proc/sys/fs/inotify/" + name)
	n := 0
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(strings.TrimSpace(string(data)), &n); err != nil {
		return 0
	}
	return n
}

const largeIndex = 512 << 20

// index tells of the cache that the daemon keeps.
func (h Host) index() Finding {
	info, err := os.Lstat(h.Home.IndexPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Fine("index", "none; it is made again at the start of a daemon")
	case err != nil:
		return Failure("index", "%v", err)
	case !info.Mode().IsRegular():
		return Failure("index", "%s is no file", h.Home.IndexPath()).WithNext("ls -ld %s", frame.ShellWord(h.Home.IndexPath()))
	case info.Size() > largeIndex:
		return Warning("index", "%d MB; it is a cache, and smaller when it is made again: stop the daemon and delete it", info.Size()>>20).WithNext("duo down")
	}
	return Fine("index", "%d KB", (info.Size()+1023)>>10)
}
