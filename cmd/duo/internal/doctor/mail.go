package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

// patience is how long a drop may wait while a daemon runs: one that is not whole yet, or
// is over the agent's rate, waits for a while.
const patience = time.Minute

// mail tells of drops that were not sent, and of those that wait too long.
func (h Host) mail() []Finding {
	agents, err := h.Home.Agents()
	if err != nil {
		return []Finding{Failure("mail", "%v", err)}
	}
	failed, waiting, late := tally{}, tally{}, tally{}
	for _, name := range agents {
		box := mailbox.At(h.Home.AgentDir(name))
		drops, err := box.Drops()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return []Finding{Failure("mail", "%v", err)}
		}
		for _, d := range drops {
			waiting.add(name, 1)
			if h.Now.Sub(d.Changed) > patience {
				late.add(name, 1)
			}
		}
		bad, err := box.FailedDrops()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return []Finding{Failure("mail", "%v", err)}
		}
		failed.add(name, len(bad))
	}
	var list []Finding
	switch {
	case h.Status != nil && late.count > 0:
		list = append(list, Failure("outbox", "%s for more than a minute, though a daemon runs", late.of("drop")).
			WithNext("ls -l %s", late.folder(h, mailbox.OutboxNew)))
	case waiting.count > 0:
		list = append(list, Fine("outbox", "%s to be sent", waiting.of("drop")))
	default:
		list = append(list, Fine("outbox", "nothing waits"))
	}
	if failed.count > 0 {
		list = append(list, Warning("failed drops", "%s could not be sent; the inbox tells why", failed.of("drop")).WithNext("duo --as %s inbox", failed.first))
	}
	return list
}

// tally counts things of agents.
type tally struct {
	count, agents int
	first         string // of the agents
}

func (t *tally) add(agent string, n int) {
	if n == 0 {
		return
	}
	if t.agents == 0 {
		t.first = agent
	}
	t.count += n
	t.agents++
}

// of says how many things it are, and whose.
func (t tally) of(what string) string {
	whose := text.Count(t.count, what) + " of " + t.first
	if t.agents > 1 {
		whose += fmt.Sprintf(" and %d more", t.agents-1)
	}
	return whose
}

// folder is a folder of the first agent, as a word of a command.
func (t tally) folder(h Host, sub string) string {
	return frame.ShellWord(filepath.Join(h.Home.AgentDir(t.first), sub))
}

// sessions tells which sessions of client programs speak as an agent, and of those whose
// agent is gone.
func (h Host) sessions() Finding {
	list, err := session.List(h.Home, "")
	if err != nil {
		return Failure("sessions", "%v", err)
	}
	live := 0
	for _, b := range list {
		if !b.Lives() {
			continue
		}
		live++
		if _, err := os.Stat(h.Home.AgentDir(b.Agent)); err != nil {
			return Warning("sessions", "%s speaks as %s, and there is no such agent any more", frame.Line(b.Key.String()), frame.Line(b.Agent)).
				WithNext("duo register %s", frame.ShellWord(frame.Line(b.Agent)))
		}
	}
	return Fine("sessions", "%d live, %d ended", live, len(list)-live)
}
