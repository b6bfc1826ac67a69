package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
	"github.com/pelletier/go-toml/v2"
)

// identity is who this run acts as, and why.
type identity struct {
	Name    string // as the card spells it
	Source  string // "--as", "DUO_AS", "session", ".duo.toml" or "only agent"
	Detail  string // the file or the session, empty for the others
	Session *session.Binding
	Human   bool // the person who runs the host
}

// me finds out who this run acts as, from files alone.
func (a *app) me() (*identity, error) {
	if a.self != nil {
		return a.self, nil
	}
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return nil, err
	}
	for _, source := range []func(*maildir.Home) (*identity, error){
		a.fromFlag, a.fromEnvironment, a.fromSession, a.fromFolder, a.fromHome,
	} {
		self, err := source(home)
		if err != nil {
			return nil, err
		}
		if self != nil {
			a.self = self
			return self, nil
		}
	}
	return nil, a.unnamed(home)
}

func (a *app) fromFlag(home *maildir.Home) (*identity, error) {
	return a.named(home, a.as, identity{Source: "--as"})
}

func (a *app) fromEnvironment(home *maildir.Home) (*identity, error) {
	if a.outdated(home) {
		return nil, nil
	}
	return a.named(home, a.env("DUO_AS"), identity{Source: "DUO_AS"})
}

// named completes an identity with the agent of that name; without a name it is nil.
func (a *app) named(home *maildir.Home, name string, self identity) (*identity, error) {
	if name == "" {
		return nil, nil
	}
	from := self.Source
	if self.Detail != "" {
		from += " " + self.Detail
	}
	address, err := envelope.ParseAddress(name)
	if err != nil {
		return nil, api.Errorf(api.IdentityUnknown, "%s: %w", from, err)
	}
	if address.Host != "" && address.Host != home.Host.Name {
		return nil, api.Errorf(api.IdentityUnknown, "%s: %s is not an agent of this host, %s", from, address, home.Host.Name)
	}
	c, err := offline.ReadCard(home, address.Name)
	if isHuman(home, address.Name) && (errors.Is(err, fs.ErrNotExist) || err == nil && c.Human && c.Unregistered) { // whom the daemon makes
		self.Name, self.Human = home.Config.Operator.Name, true
		return &self, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		like := offline.AgentsLike(home, address.Name)
		next := "duo register " + address.Name
		if len(like) > 0 {
			next = "duo who"
		}
		return nil, api.Errorf(api.IdentityUnknown, "%s: there is no agent %q here", from, address.Name).WithNear(like).WithNext("%s", next)
	}
	if err != nil {
		return nil, err
	}
	if c.Unregistered {
		return nil, api.Errorf(api.IdentityUnknown, "%s: %s is unregistered", from, c.Name).WithNext("duo register %s", c.Name)
	}
	self.Name, self.Human = c.Name, c.Human
	return &self, nil
}

// program refuses that a program is the person who runs the host.
func (i *identity) program() error {
	if i == nil || !i.Human {
		return nil
	}
	return api.Errorf(api.NotAllowed, "%s is the person who runs this host, and no program", i.Name).WithNext("duo register NAME")
}

// isHuman reports whether a name is that of the person who runs the host.
func isHuman(home *maildir.Home, name string) bool {
	return strings.EqualFold(name, home.Config.Operator.Name)
}

const folderFile = ".duo.toml"

// fromFolder reads the nearest .duo.toml in the working folder or above.
func (a *app) fromFolder(home *maildir.Home) (*identity, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, nil // a removed working folder says nothing
	}
	return a.fromFolderAbove(home, dir)
}

func (a *app) fromFolderAbove(home *maildir.Home, dir string) (*identity, error) {
	for {
		path := filepath.Join(dir, folderFile)
		name, err := agentOfFolder(path)
		if err != nil {
			return nil, api.Errorf(api.IdentityUnknown, "%w", err).WithNext("cat %s", shellQuote(path))
		}
		if name != "" {
			return a.named(home, name, identity{Source: folderFile, Detail: path})
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil, nil
		}
		dir = parent
	}
}

const maxFolderFile = 64 << 10

// agentOfFolder reads the agent that a .duo.toml names; other keys are of no concern.
func agentOfFolder(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxFolderFile {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	var content struct {
		Agent any `toml:"agent"`
	}
	if err := toml.Unmarshal(data, &content); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	name, ok := content.Agent.(string)
	if !ok && content.Agent != nil {
		return "", fmt.Errorf("read %s: agent: want a name in quotes", path)
	}
	return name, nil
}

// onlyAgent is the source of an identity that nobody has said.
const onlyAgent = "only agent"

// fromHome is the only agent of the home, where there is only one.
func (a *app) fromHome(home *maildir.Home) (*identity, error) {
	names, err := registered(home, 2)
	if err != nil || len(names) != 1 {
		return nil, err
	}
	return &identity{Name: names[0], Source: onlyAgent}, nil
}

const folderBatch = 64

// registered lists the names of at most n agents that are not unregistered, without
// reading more of the folder than it must.
func registered(home *maildir.Home, n int) ([]string, error) {
	dir, err := os.Open(home.AgentsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	defer dir.Close()
	var names []string
	for {
		batch, err := dir.Readdirnames(folderBatch)
		for _, name := range batch {
			if envelope.CheckName(name) != nil || strings.ToLower(name) != name {
				continue
			}
			if c, err := offline.ReadCard(home, name); err == nil && !c.Unregistered && !c.Human {
				names = append(names, c.Name)
			}
			if len(names) == n {
				return names, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list agents: %w", err)
		}
	}
}

const maxListed = 8

// unnamed is the error where nothing says who this run acts as.
func (a *app) unnamed(home *maildir.Home) error {
	names, err := registered(home, maxListed+1)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return api.Errorf(api.IdentityRequired, "there is no agent here yet").WithNext("duo register NAME")
	}
	slices.SortFunc(names, compareNames)
	list := strings.Join(names[:min(len(names), maxListed)], ", ")
	if len(names) > maxListed {
		list += ", … (duo who lists them all)"
	}
	return whichAgent("several agents live here and nothing says which one you are: %s", list)
}

const sayWho = "; say it with --as NAME, or for all commands"

// whichAgent is the error where more than one agent is meant. It picks none: whoever
// acts as another one reads its mail.
func whichAgent(format string, args ...any) error {
	return api.Errorf(api.IdentityRequired, format+sayWho, args...).WithNext("export DUO_AS=NAME")
}

func compareNames(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }
