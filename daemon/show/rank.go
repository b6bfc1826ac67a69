package show

import (
	"cmp"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
)

// Agents lists the agents that a query selects, as describe tells of them: where it
// searches, those first that fit best, are there and have little to do; else in the order
// in which they are given.
func Agents(all []Who, q api.AgentQuery, describe func(Who) api.Agent) api.Agents {
	all = slices.DeleteFunc(all, func(w Who) bool {
		return q.Host != "" && q.Host != w.Address.Host || !w.Card.HasAll(q.Capabilities) || !w.Card.Mentions(q.Text)
	})
	searches := q.Text != "" || len(q.Capabilities) > 0 || q.Status != ""
	var out api.Agents
	if !searches {
		all, out.More, out.Next = api.Page(all, q.Cursor, Limit(q.Limit), func(w Who) string { return w.Address.String() })
	}
	list := []api.Agent{}
	for _, w := range all {
		if a := describe(w); q.Status == "" || a.Status == q.Status {
			list = append(list, a)
		}
	}
	if !searches {
		out.Agents = list
		return out
	}
	words := fields(q.Text)
	slices.SortStableFunc(list, func(a, b api.Agent) int {
		return cmp.Or(cmp.Compare(fit(b, words), fit(a, words)), compareReady(a, b))
	})
	out.Agents, out.More, out.Next = api.Page(list, q.Cursor, Limit(q.Limit), func(a api.Agent) string { return a.Address })
	return out
}

// Best lists the agents that a match can call, those first that are there, then those
// that fit best and have little to do; of equal ones those of this host. Where only a topic says what is wanted, at least
// one of its words has to fit.
func Best(all []Who, ask api.Match, describe func(Who) api.Agent) []api.Agent {
	words := fields(ask.Text + " " + ask.Topic)
	demands := len(ask.Capabilities) > 0 || ask.Text != ""
	list := []api.Agent{}
	for _, w := range all {
		if !w.Card.HasAll(ask.Capabilities) || !w.Card.Mentions(ask.Text) {
			continue
		}
		if a := describe(w); demands || fit(a, words) > 0 {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b api.Agent) int {
		return cmp.Or(
			cmp.Compare(readiness(a), readiness(b)),
			cmp.Compare(fit(b, words), fit(a, words)),
			compareReady(a, b),
		)
	})
	return list[:min(len(list), maxLimit)]
}

func fields(text string) []string { return strings.Fields(strings.ToLower(text)) }

// fit says how well an agent fits some words: most where one is a capability of its, or
// its name.
func fit(a api.Agent, words []string) (points int) {
	about := strings.ToLower(a.Description + " " + a.Platform)
	for _, word := range words {
		is := func(s string) bool { return strings.EqualFold(s, word) }
		has := func(s string) bool { return strings.Contains(strings.ToLower(s), word) }
		switch {
		case slices.ContainsFunc(a.Capabilities, is) || is(a.Name):
			points += 4
		case len(word) > 3 && slices.ContainsFunc(a.Capabilities, has):
			points += 2
		case len(word) > 3 && strings.Contains(about, word):
			points++
		}
	}
	return points
}

var states = []string{"available", "ringing", "busy", "in-call"}

// readiness ranks agents by how soon they can talk. Whose host is out of reach cannot even
// be asked.
func readiness(a api.Agent) int {
	if a.Link != "" && a.Link != api.LinkUp {
		return len(states) + 1
	}
	if i := slices.Index(states, a.Status); i >= 0 {
		return i
	}
	return len(states)
}

// distance is 0 for agents of this host.
func distance(a api.Agent) int { return min(len(a.Link), 1) }

var wakes = []string{api.WakePush, api.WakeTurnEnd, api.WakeManual}

// promptness ranks agents by how soon they learn of what comes.
func promptness(a api.Agent) int {
	if i := slices.Index(wakes, a.Wake); i >= 0 {
		return i
	}
	return len(wakes)
}

func compareReady(a, b api.Agent) int {
	return cmp.Or(
		cmp.Compare(readiness(a), readiness(b)),
		cmp.Compare(a.Open+a.Unread, b.Open+b.Unread),
		cmp.Compare(promptness(a), promptness(b)),
		cmp.Compare(distance(a), distance(b)),
		cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
		cmp.Compare(a.Host, b.Host),
	)
}
