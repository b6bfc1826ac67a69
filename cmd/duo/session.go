package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// binding says which agent a session of a client program speaks as. register writes
// it, so that the session need not name itself again.
type binding struct {
	Agent   string `json:"agent"`
	Client  string `json:"client"`
	Session string `json:"session"`
	BoundAt int64  `json:"boundAt"` // Unix milliseconds
}

// sessions lists the sessions that this run is part of, as the client programs tell
// their children. There are two when one of them has started the other.
func (a *app) sessions() []binding {
	var list []binding
	for _, known := range []struct{ client, variable string }{
		{"claude-code", "CLAUDE_CODE_SESSION_ID"},
		{"codex", "CODEX_THREAD_ID"},
		{"gemini", "GEMINI_SESSION_ID"},
		{"duo", "DUO_SESSION"},
	} {
		if id := a.env(known.variable); id != "" {
			list = append(list, binding{Client: known.client, Session: id})
		}
	}
	return list
}

func (b binding) path(home *maildir.Home) string {
	sum := sha256.Sum256([]byte(b.Client + ":" + b.Session))
	return filepath.Join(home.SessionsDir(), hex.EncodeToString(sum[:])+".json")
}

func (b binding) String() string { return b.Client + " " + b.Session }

// read returns the binding as it is on disk, nil where there is none.
func (b binding) read(home *maildir.Home) (*binding, error) {
	data, err := os.ReadFile(b.path(home))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	var found binding
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, nil // torn by a crash: as if it had never been written
	}
	return &found, nil
}

// bind writes that the session of this run speaks as an agent. Where a session is
// around it that is bound to another agent, that one keeps its binding.
func (a *app) bind(home *maildir.Home, agent string) error {
	sessions := a.sessions()
	for _, b := range sessions {
		bound, err := b.read(home)
		if err != nil {
			return err
		}
		if len(sessions) > 1 && bound != nil && !strings.EqualFold(bound.Agent, agent) {
			continue
		}
		b.Agent, b.BoundAt = agent, time.Now().UnixMilli()
		if err := b.write(home); err != nil {
			return err
		}
	}
	return nil
}

func (b binding) write(home *maildir.Home) error {
	if err := durable.Mkdir(home.SessionsDir(), 0o700); err != nil {
		return err
	}
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	return durable.ReplaceCache(b.path(home), append(data, '\n'), 0o600)
}

// unbind forgets the bindings of this run's sessions to an agent.
func (a *app) unbind(home *maildir.Home, agent string) error {
	for _, b := range a.sessions() {
		found, err := b.read(home)
		if err != nil {
			return err
		}
		if found != nil && strings.EqualFold(found.Agent, agent) {
			if err := os.Remove(b.path(home)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("forget session: %w", err)
			}
		}
	}
	return nil
}

// fromSession is the agent that this run's sessions are bound to. Two sessions that
// say different things are an error: one program has started the other.
func (a *app) fromSession(home *maildir.Home) (*identity, error) {
	var found *binding
	for _, b := range a.sessions() {
		bound, err := b.read(home)
		if err != nil {
			return nil, err
		}
		if bound == nil {
			continue
		}
		if found != nil && !strings.EqualFold(found.Agent, bound.Agent) {
			return nil, whichAgent("two sessions are around you: %s is %s, %s is %s",
				found.Client, found.Agent, bound.Client, bound.Agent)
		}
		found = bound
	}
	if found == nil {
		return nil, nil
	}
	return a.named(home, found.Agent, identity{Source: "session", Detail: found.String(), Session: found})
}
