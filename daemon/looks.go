package daemon

import (
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

const (
	clockSlack = 2 * time.Second // how coarse the times of files may be
	logParts   = 10              // so many routine sweeps look at everything
)

// looks remembers what folders and logs looked like when a sweep last looked at them.
// Times of files are compared with nothing but earlier ones of the same file: they may
// be of another clock than ours, and ours may be set back.
type looks struct {
	marks   map[string]mark // by agent and folder, or conversation
	now     time.Duration   // of this sweep, since some fixed moment
	polling bool
	turn    uint32
}

// mark is what a folder or a log looked like.
type mark struct {
	durable.Look
	settles time.Duration // from then on a change shows; 0 when it was looked at since
}

func newLooks() *looks { return &looks{marks: make(map[string]mark)} }

// begin begins a sweep.
func (l *looks) begin(now time.Duration, polling bool) {
	l.now, l.polling = now, polling
	l.turn++
}

// changed reports whether a folder or log may have changed since the last look. Where
// nothing else tells of changes, it says so too while another change could have the
// same time as the last one.
func (l *looks) changed(key string, look durable.Look) bool {
	is := mark{Look: look}
	was := l.marks[key]
	settles := was.settles
	was.settles = 0
	switch {
	case is != was:
		is.settles = l.now + clockSlack
	case settles == 0 || !l.polling:
		return false
	case l.now < settles:
		return true // and is looked at again
	}
	l.marks[key] = is
	return true
}

// is reports whether something looks as it did at the last look.
func (l *looks) is(key string, look durable.Look) bool {
	was, ok := l.marks[key]
	return ok && was.Look == look
}

func (l *looks) known(key string) bool {
	_, ok := l.marks[key]
	return ok
}

// isTurnOf reports whether a routine sweep is to look at a log, or all of an agent.
func (l *looks) isTurnOf(name string) bool {
	return turnOf(name) == l.turn%logParts
}

// turnOf tells which turn is that of a log or an agent.
func turnOf(name string) uint32 { return crc32.ChecksumIEEE([]byte(name)) % logParts }

// forget drops what is known of agents and logs that are not there any more. Both lists
// are sorted.
func (l *looks) forget(agents, logs []string) {
	if len(l.marks) <= len(agentParts)*len(agents)+len(logs) {
		return
	}
	maps.DeleteFunc(l.marks, func(key string, _ mark) bool {
		list := logs
		name, _, isAgent := strings.Cut(key, "/")
		if isAgent {
			list = agents
		}
		_, found := slices.BinarySearch(list, name)
		return !found
	})
}
