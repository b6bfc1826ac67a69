package main

import (
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/session"
)

// lease takes for this run's session what comes, so that of several sessions of one agent
// one is shown each item as its own to act on.
type lease struct {
	app   *app
	looks bool // what is only looked at needs none
	left  int  // items of the last answer that other sessions have
}

func (a *app) lease(looks bool) *lease { return &lease{app: a, looks: looks} }

// take returns those of the messages that no other live session of the agent has taken.
func (l *lease) take(messages []api.Message) ([]api.Message, error) {
	if l.looks || len(messages) == 0 {
		return messages, nil
	}
	host, err := l.app.host()
	if err != nil {
		return nil, err
	}
	mine, _, err := host.Take(session.Here(host.Home, host.Agent, l.app.env), messages)
	if err != nil {
		return nil, err
	}
	l.left = len(messages) - len(mine)
	return mine, nil
}

// tell notes how many items another session has.
func (l *lease) tell() {
	if l.left > 0 {
		l.app.note("%s with another session of %s; duo inbox lists all", text.Count(l.left, "item"), l.app.self.Name)
	}
}

// liveSession is a session that is an agent now, as --json tells it.
type liveSession struct {
	Client  string `json:"client"`
	Session string `json:"session"`
	State   string `json:"state,omitempty"` // working or idle, where the session's hooks tell
	Hooks   bool   `json:"hooks"`           // it is told of what comes
	Waits   bool   `json:"waits"`           // something waits to wake it
	This    bool   `json:"this"`            // this run is part of it
	Items   int    `json:"items"`           // that it has to act on
}

// liveSessions lists the sessions that are an agent of this host; none where that cannot
// be read.
func (a *app) liveSessions(agent string) []liveSession {
	live, err := session.Live(a.opened, agent)
	if err != nil {
		return nil
	}
	leases, _ := session.OpenBook(a.opened, agent).Leases() // or nobody has anything
	keys := a.sessions()
	var list []liveSession
	for _, b := range live {
		s := liveSession{
			Client: b.Client, Session: b.ID, State: b.State, Hooks: b.Hooks, Waits: b.Waits(), This: slices.Contains(keys, b.Key),
		}
		for _, l := range leases {
			if l.Key == b.Key {
				s.Items = len(l.Items)
			}
		}
		list = append(list, s)
	}
	return list
}

// described tells of sessions in a line each.
func described(list []liveSession) []string {
	var lines []string
	for _, s := range list {
		parts := []string{s.Client + " " + s.Session}
		if s.State != "" {
			parts = append(parts, s.State)
		}
		if s.Items > 0 {
			parts = append(parts, text.Count(s.Items, "item")+" to act on")
		}
		if s.This {
			parts = append(parts, "this one")
		}
		lines = append(lines, strings.Join(parts, ", "))
	}
	return lines
}
