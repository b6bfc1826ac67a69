package doctor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// well is a host on which all is as it should be.
func well(t *testing.T) doctor.Host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mailbox.Open(home.AgentDir("Atlas")); err != nil {
		t.Fatal(err)
	}
	return doctor.Host{
		Home: home, Version: "v1.2.3", Autostart: true, Now: now,
		Status: &api.Status{Version: "v1.2.3", PID: 1, Watching: "events", HTTP: "127.0.0.1:7600"},
	}
}

func TestLook(t *testing.T) {
	for name, test := range map[string]struct {
		harm                     func(*testing.T, *doctor.Host)
		level                    doctor.Level
		what, detail, next, nope string
	}{
		"another version": {
			func(_ *testing.T, h *doctor.Host) { h.Version = "v1.3.0" },
			doctor.Warn, "daemon", "it is version v1.2.3, and this program v1.3.0", "duo down", "",
		},
		"no daemon": {
			func(_ *testing.T, h *doctor.Host) { h.Status = nil },
			doctor.OK, "daemon", "the next command that needs one starts it", "", "",
		},
		"no daemon, and none is started": {
			func(_ *testing.T, h *doctor.Host) { h.Status, h.Autostart = nil, false },
			doctor.Warn, "daemon", "DUO_AUTOSTART is 0", "duo up", "",
		},
		"a daemon that does not answer": {
			func(t *testing.T, h *doctor.Host) {
				h.Status, h.Silence = nil, errors.New("no answer")
				hold(t, h.Home)
			},
			doctor.Fail, "daemon", "does not answer: no answer", "tail ", "",
		},
		"a sandbox": {
			func(t *testing.T, h *doctor.Host) {
				h.Status, h.Silence = nil, fmt.Errorf("dial: %w", syscall.EPERM)
				hold(t, h.Home)
			},
			doctor.Warn, "daemon", "may use no sockets", "duo inbox", "",
		},
		"another program has the port": {
			func(_ *testing.T, h *doctor.Host) { h.Status.Problems = []string{"no page: address already in use"} },
			doctor.Warn, "problem", "address already in use", "duo config list", "",
		},
		"a command that wakes nobody": {
			func(_ *testing.T, h *doctor.Host) {
				h.Home.Config.Wake = maildir.WakeConfig{"atlas": "x", "Atlsa": "y", "Gone": ""}
			},
			doctor.Warn, "wake", "a command that wakes Atlsa, and no such agent", "duo who --here", "",
		},
		"commands that wake agents": {
			func(_ *testing.T, h *doctor.Host) { h.Home.Config.Wake = maildir.WakeConfig{"atlas": "x"} },
			doctor.OK, "home", "", "", "wake",
		},
		"a key that others can read": {
			func(t *testing.T, h *doctor.Host) { chmod(t, h.Home.KeyPath(), 0o640) },
			doctor.Fail, "permissions", "key has mode 0640", "chmod 600 ", "",
		},
		"a token that others can read": {
			func(t *testing.T, h *doctor.Host) {
				path := filepath.Join(h.Home.AgentDir("Atlas"), "token")
				write(t, path, "x")
				chmod(t, path, 0o604)
			},
			doctor.Fail, "permissions", "token has mode 0604", "chmod 600 ", "",
		},
		"a daemon that polls": {
			func(_ *testing.T, h *doctor.Host) { h.Status.Watching = "polling" },
			doctor.Warn, "watching", "every 500ms", "grep polling ", "",
		},
		"a daemon that polls because it was told to": {
			func(_ *testing.T, h *doctor.Host) { h.Status.Watching, h.Home.Config.Watch.Poll = "polling", true },
			doctor.OK, "watching", "folders", "", "",
		},
		"a message from the future": {
			func(t *testing.T, h *doctor.Host) { say(t, h.Home, now.Add(time.Hour)) },
			doctor.Warn, "clock", "a message from 1h0m0s from now", "date -u", "",
		},
		"a message of just now": {
			func(t *testing.T, h *doctor.Host) { say(t, h.Home, now.Add(time.Second)) },
			doctor.OK, "clock", "no message is from the future", "", "",
		},
		"an index that is none": {
			func(t *testing.T, h *doctor.Host) { mkdir(t, h.Home.IndexPath()) },
			doctor.Fail, "index", "is no file", "ls -ld ", "",
		},
		"a drop that waits": {
			func(t *testing.T, h *doctor.Host) { drop(t, h.Home, now.Add(-2*time.Minute)) },
			doctor.Fail, "outbox", "1 drop of atlas for more than a minute", "ls -l ", "",
		},
		"a drop of just now": {
			func(t *testing.T, h *doctor.Host) { drop(t, h.Home, now) },
			doctor.OK, "outbox", "1 drop of atlas to be sent", "", "",
		},
		"a drop that waits for a daemon": {
			func(t *testing.T, h *doctor.Host) { h.Status = nil; drop(t, h.Home, now.Add(-2*time.Minute)) },
			doctor.OK, "outbox", "1 drop of atlas to be sent", "", "",
		},
		"a drop that was refused": {
			func(t *testing.T, h *doctor.Host) {
				write(t, filepath.Join(h.Home.AgentDir("Atlas"), mailbox.Failed, "x.json"), `{"error":"no"}`)
			},
			doctor.Warn, "failed drops", "1 drop of atlas could not be sent", "duo --as atlas inbox", "",
		},
		"a session of nobody": {
			func(t *testing.T, h *doctor.Host) {
				if err := session.Bind(h.Home, session.Key{Client: session.Claude, ID: "s1"}, "Nova", now); err != nil {
					t.Fatal(err)
				}
			},
			doctor.Warn, "sessions", "speaks as Nova, and there is no such agent", "duo register Nova", "",
		},
		"a link that is down": {
			func(t *testing.T, h *doctor.Host) {
				h.Peers = []api.Peer{{Name: "lon", State: "down", Problem: "connection refused"}}
				write(t, filepath.Join(h.Home.SpoolDir("lon"), "new", "1.x.json"), "{}")
			},
			doctor.Warn, "link lon", "down, 1 wait for it, the oldest for", "duo peer show lon", "",
		},
		"a link that somebody has to see to": {
			func(_ *testing.T, h *doctor.Host) {
				h.Peers = []api.Peer{{Name: "lon", State: "held", Problem: "does not know this host"}}
			},
			doctor.Fail, "link lon", "somebody has to act: does not know this host", "duo peer show lon", "",
		},
		"a conversation that rests": {
			func(_ *testing.T, h *doctor.Host) {
				h.Peers = []api.Peer{{Name: "lon", State: "up", Resting: []api.Resting{{Conversation: "c1", Seq: 7, Why: "both have it"}}}}
			},
			doctor.Fail, "link lon", "1 conversation carried no more, c1 at line 7: both have it", "duo peer show lon", "",
		},
		"a link that is up": {
			func(_ *testing.T, h *doctor.Host) { h.Peers = []api.Peer{{Name: "lon", State: "up"}} },
			doctor.OK, "link lon", "up", "", "links",
		},
		"a peer whose record is broken": {
			func(t *testing.T, h *doctor.Host) { write(t, filepath.Join(h.Home.PeerDir("lon"), "peer.json"), "{") },
			doctor.Fail, "link lon", "it is not trusted", "ls -la ", "",
		},
		"errors of today": {
			func(t *testing.T, h *doctor.Host) {
				write(t, h.Home.DaemonLogPath(), entry(now.Add(-48*time.Hour), "ERROR", "old")+entry(now.Add(-time.Hour), "ERROR", "disk\x1b[2J")+entry(now, "WARN", "odd"))
			},
			doctor.Warn, "daemon log", `1 error in the last day, the last one: time=2026-03-04T04:06:07.000Z level=ERROR msg=disk\u{1B}[2J`, "grep level=ERROR ", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := well(t)
			test.harm(t, &h)
			list := doctor.Look(h)
			found := false
			for _, f := range list {
				if f.What == test.nope {
					t.Errorf("got %+v, want nothing of it", f)
				}
				if f.What == test.what {
					found = true
					if f.Level != test.level || !strings.Contains(f.Detail, test.detail) || !strings.HasPrefix(f.Next, test.next) || test.next == "" && f.Next != "" {
						t.Errorf("got %+v, want %s, %q and %q", f, test.level, test.detail, test.next)
					}
				} else if f.Level != doctor.OK && f.What != "space" { // which is the machine's
					t.Errorf("got %+v too", f)
				}
			}
			if !found {
				t.Errorf("got %+v, want something of %q", list, test.what)
			}
		})
	}
}

// All is well where nothing is wrong, and looking leaves no trace.
func TestLookAtAWellHost(t *testing.T) {
	h := well(t)
	before := names(t, h.Home.Dir)
	for _, f := range doctor.Look(h) {
		if f.Level != doctor.OK && f.What != "space" || f.Detail == "" {
			t.Errorf("got %+v, want it to be well", f)
		}
	}
	if after := names(t, h.Home.Dir); before != after {
		t.Errorf("the home was %s and is %s", before, after)
	}
}

func TestNoHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	look := func() doctor.Finding {
		_, err := maildir.Open(dir)
		return doctor.NoHome(dir, err)[0]
	}
	if f := look(); f.Level != doctor.Warn || f.Next != "duo up" {
		t.Errorf("got %+v, want a warning and duo up", f)
	}
	if _, err := maildir.Init(dir); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.toml"), "nonsense = 1\n")
	if f := look(); f.Level != doctor.Fail || f.What != "config" || !strings.HasPrefix(f.Next, "cat ") {
		t.Errorf("got %+v, want a failure of the configuration", f)
	}
	chmod(t, dir, 0o755)
	if f := look(); f.Level != doctor.Fail || f.Next != "chmod 700 "+dir {
		t.Errorf("got %+v, want a failure and chmod", f)
	}
}

func TestLimits(t *testing.T) {
	for _, step := range []struct {
		got  doctor.Finding
		want doctor.Level
	}{
		{doctor.Room(durable.Space{Bytes: 1 << 40, Files: 1 << 20}), doctor.OK},
		{doctor.Room(durable.Space{Bytes: 1 << 40, Any: true}), doctor.OK},
		{doctor.Room(durable.Space{Bytes: 100 << 20, Files: 1 << 20}), doctor.Warn},
		{doctor.Room(durable.Space{Bytes: 1 << 20, Files: 1 << 20}), doctor.Fail},
		{doctor.Room(durable.Space{Bytes: 1 << 40, Files: 5}), doctor.Fail},
		{doctor.Watches(10, 8192), doctor.OK},
		{doctor.Watches(4000, 8192), doctor.Warn},
		{doctor.Watches(4000, 0), doctor.OK},
	} {
		if step.got.Level != step.want {
			t.Errorf("got %+v, want %s", step.got, step.want)
		}
	}
}

// hold takes the place of a daemon.
func hold(t *testing.T, home *maildir.Home) {
	t.Helper()
	release, err := home.LockDaemon()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
}

// say makes a conversation with a line of that time.
func say(t *testing.T, home *maildir.Home, at time.Time) {
	t.Helper()
	id := envelope.NewID()
	line := &envelope.Envelope{Type: envelope.System, Event: envelope.EventCreate, ID: id, From: home.Address("Atlas"), Conversation: id}
	if err := convlog.Create(home.LogPath(id), []*envelope.Envelope{line}, at); err != nil {
		t.Fatal(err)
	}
}

func drop(t *testing.T, home *maildir.Home, at time.Time) {
	t.Helper()
	path := filepath.Join(home.AgentDir("Atlas"), mailbox.OutboxNew, "x.json")
	write(t, path, "{}")
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func entry(at time.Time, level, msg string) string {
	return fmt.Sprintf("time=%s level=%s msg=%s\n", at.Format("2006-01-02T15:04:05.000Z07:00"), level, msg)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// names lists all files below a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}
