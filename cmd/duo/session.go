package main

import (
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
)

// sessions lists the sessions that this run is part of.
func (a *app) sessions() []session.Key { return session.Of(a.env) }

// bind writes that the session of this run speaks as an agent. Where a session is
// around it that is bound to another agent, that one keeps its binding.
func (a *app) bind(home *maildir.Home, agent string) error {
	keys := a.sessions()
	for _, k := range keys {
		bound, err := session.Read(home, k)
		if err != nil {
			return err
		}
		if len(keys) > 1 && bound != nil && !strings.EqualFold(bound.Agent, agent) {
			continue
		}
		if err := session.Bind(home, k, agent, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// unbind forgets the bindings of this run's sessions to an agent, and what they hold.
func (a *app) unbind(home *maildir.Home, agent string) error {
	for _, k := range a.sessions() {
		found, err := session.Read(home, k)
		if err != nil {
			return err
		}
		if found == nil || !strings.EqualFold(found.Agent, agent) {
			continue
		}
		if err := session.OpenBook(home, agent).Leave(found.Holder()); err != nil {
			return err
		}
		if err := session.Remove(home, k); err != nil {
			return err
		}
	}
	return nil
}

// fromSession is the agent that this run's sessions are bound to. Where one program has
// started another one and they are different agents, it is that of the inner one; where
// nobody can tell which that is, it is an error.
func (a *app) fromSession(home *maildir.Home) (*identity, error) {
	bound, err := a.bindings(home)
	if err != nil || len(bound) == 0 {
		return nil, err
	}
	found := &bound[len(bound)-1]
	for _, other := range bound {
		if strings.EqualFold(found.Agent, other.Agent) {
			continue
		}
		if found = session.Nearest(bound); found == nil {
			inner := bound[len(bound)-1]
			return nil, whichAgent("two sessions are around you: %s is %s, %s is %s",
				other.Client, other.Agent, inner.Client, inner.Agent)
		}
		break
	}
	return a.named(home, found.Agent, identity{Source: "session", Detail: found.Key.String(), Session: found})
}

// bindings are those of this run's sessions.
func (a *app) bindings(home *maildir.Home) ([]session.Binding, error) {
	var list []session.Binding
	for _, k := range a.sessions() {
		b, err := session.Read(home, k)
		if err != nil {
			return nil, err
		}
		if b != nil {
			list = append(list, *b)
		}
	}
	return list, nil
}

// outdated reports whether DUO_AS is what a session's commands were given at its start,
// and the session was bound to another agent since.
func (a *app) outdated(home *maildir.Home) bool {
	as := a.env("DUO_AS")
	bound, err := a.bindings(home)
	return err == nil && as != "" && slices.ContainsFunc(bound, func(b session.Binding) bool {
		return strings.EqualFold(b.As, as) && !strings.EqualFold(b.Agent, as)
	})
}
