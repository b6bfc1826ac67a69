package main

import (
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

// fromSession is the agent that this run's sessions are bound to. Two sessions that
// say different things are an error: one program has started the other.
func (a *app) fromSession(home *maildir.Home) (*identity, error) {
	var found *session.Binding
	for _, k := range a.sessions() {
		bound, err := session.Read(home, k)
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
	return a.named(home, found.Agent, identity{Source: "session", Detail: found.Key.String(), Session: found})
}
