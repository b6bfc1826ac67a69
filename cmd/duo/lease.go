package main

import (
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/mailbox"
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
	home, agent := l.app.opened, l.app.self.Name
	names := itemNames(mailbox.At(home.AgentDir(agent)), messages)
	mine, err := session.OpenBook(home, agent).Take(session.Here(home, agent, l.app.env), names)
	if err != nil {
		return nil, err
	}
	var list []api.Message
	for i, m := range messages {
		if slices.Contains(mine, names[i]) {
			list = append(list, m)
		}
	}
	l.left = len(messages) - len(list)
	return list, nil
}

// tell notes how many items another session has.
func (l *lease) tell() {
	if l.left > 0 {
		l.app.note("%s with another session of %s; duo inbox lists all", text.Count(l.left, "item"), l.app.self.Name)
	}
}

// itemNames are the names of the files in which messages wait.
func itemNames(box *mailbox.Box, messages []api.Message) []string {
	names := make([]string, len(messages))
	var signals []mailbox.Signal
	for i, m := range messages {
		e := m.Envelope
		if e.Seq > 0 {
			names[i] = mailbox.ItemOf(e.Conversation, e.Seq, e.Timestamp).Name
			continue
		}
		if signals == nil {
			signals, _ = box.Signals() // what does not wait there has the name that it would have
		}
		names[i] = mailbox.SignalOf(e.Request, e.Timestamp).Name
		for _, s := range signals {
			if s.Request == e.Request {
				names[i] = s.Name
			}
		}
	}
	return names
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
