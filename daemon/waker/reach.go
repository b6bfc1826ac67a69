package waker

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	shownAge = time.Second            // of what is known of sessions, where it is shown
	lookAge  = 250 * time.Millisecond // the same, where it decides: less than settles
)

// Session is a live session of a client program that acts as an agent.
type Session struct {
	Agent  string
	Client string // claude, codex, gemini, ... or session.Attendant
	ID     string // in the client's own words
	Hooks  bool   // the client tells it of what has come
	Works  bool   // it is in the middle of a turn
	Waits  bool   // a program waits for it, and wakes it
}

// Sessions lists the live sessions of the home; Live is one.
type Sessions func() []Session

// Live lists the sessions that the files of a home tell of. One that cannot be read is
// nobody.
func Live(home *maildir.Home) []Session {
	bound, _ := session.Live(home, "")
	list := make([]Session, 0, len(bound))
	for _, b := range bound {
		list = append(list, Session{
			Agent: b.Agent, Client: b.Client, ID: b.ID, Hooks: b.Hooks, Works: b.State == session.Working, Waits: b.Waits(),
		})
	}
	return list
}

// reach knows who is there to be reached. What it knows of sessions is a moment old.
type reach struct {
	list Sessions

	mu    sync.Mutex
	taken time.Time
	by    map[string][]Session // by folder name
	stood map[string]standing  // at the last look at changes, of those with sessions
	codex bool                 // the program is there
}

// standing is how an agent was found.
type standing struct {
	says     string   // what Capability has said
	reached  bool     // by a session
	sessions []string // their ids
}

// sessions are those of an agent, as they were at most age ago.
func (r *reach) sessions(agent string, age time.Duration) []Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(age)
	return r.by[strings.ToLower(agent)]
}

// refresh looks at the sessions again. The caller holds the lock.
func (r *reach) refresh(age time.Duration) {
	if !r.taken.IsZero() && time.Since(r.taken) < age {
		return
	}
	r.by, r.codex = make(map[string][]Session), false
	for _, s := range r.list() {
		agent := strings.ToLower(s.Agent)
		r.by[agent] = append(r.by[agent], s)
		r.codex = r.codex || s.Client == session.Codex
	}
	if r.codex {
		_, err := exec.LookPath(session.Codex)
		r.codex = err == nil
	}
	r.taken = time.Now()
}

// Capability tells how an agent learns of what comes for it: api.WakePush and so on.
func (w *Waker) Capability(agent string) string {
	sessions := w.sessions(agent, shownAge)
	w.reach.mu.Lock()
	codex := w.codex
	w.reach.mu.Unlock()
	return w.capability(agent, sessions, codex)
}

func (w *Waker) capability(agent string, sessions []Session, codex bool) string {
	if w.Home.Config.Wake.Command(agent) != "" || w.Mail.Listening(agent) || slices.ContainsFunc(sessions, Session.reached) {
		return api.WakePush
	}
	says := api.WakeNone
	for _, s := range sessions {
		switch {
		case s.Client == session.Codex && s.Hooks && !s.Works && codex:
			return api.WakePush
		case s.Hooks:
			says = api.WakeTurnEnd
		case says == api.WakeNone:
			says = api.WakeManual
		}
	}
	return says
}

// reached reports whether something brings a session what comes, and wakes it.
func (s Session) reached() bool { return s.Waits || s.Client == session.Attendant }

// ways are how an agent can be woken now, the best first; none where it need not be. Later
// says that one of its sessions works.
func (w *Waker) ways(agent string) (ways []way, later bool) {
	sessions := w.sessions(agent, lookAge)
	switch {
	case w.Mail.Listening(agent) || slices.ContainsFunc(sessions, Session.reached):
		return nil, false
	case slices.ContainsFunc(sessions, func(s Session) bool { return s.Works }):
		return nil, true
	}
	for _, s := range sessions {
		if s.Client == session.Codex && s.Hooks {
			ways = append(ways, way{kind: byClient, thread: s.ID})
			break // one of them acts
		}
	}
	if command := w.Home.Config.Wake.Command(agent); command != "" {
		ways = append(ways, way{kind: byCommand, command: command})
	}
	return ways, false
}

// stand is how an agent is found now. The caller holds the lock.
func (w *Waker) stand(agent string) standing {
	sessions := w.by[agent]
	s := standing{says: w.capability(agent, sessions, w.codex), reached: slices.ContainsFunc(sessions, Session.reached)}
	for _, one := range sessions {
		s.sessions = append(s.sessions, one.Client+" "+one.ID)
	}
	return s
}

// changes are the agents of whom Capability says something else than at the last call, and
// those of whom a session is gone, or whom none reaches any more.
func (w *Waker) changes() (other, left []string) {
	w.reach.mu.Lock()
	defer w.reach.mu.Unlock()
	w.refresh(lookAge)
	stands := make(map[string]standing, len(w.by))
	for agent := range w.stood {
		stands[agent] = standing{}
	}
	for agent := range w.by {
		stands[agent] = standing{}
	}
	for agent := range stands {
		was, is := w.stood[agent], w.stand(agent)
		stands[agent] = is
		if was.says != is.says {
			other = append(other, agent)
		}
		gone := slices.ContainsFunc(was.sessions, func(id string) bool { return !slices.Contains(is.sessions, id) })
		if gone || was.reached && !is.reached {
			left = append(left, agent)
		}
	}
	maps.DeleteFunc(stands, func(agent string, _ standing) bool { return len(w.by[agent]) == 0 })
	w.stood = stands
	return other, left
}
