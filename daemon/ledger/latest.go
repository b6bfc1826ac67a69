package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// latest is the order in which the logs have changed. The first who asks has all of them
// looked at, whoever asks later only those that have changed meanwhile.
type latest struct {
	asking sync.Mutex // taken before mu
	order  []change   // the last one first

	mu      sync.Mutex
	changed map[string]bool // since order was made; nil before anybody asks
}

// change tells when a log has changed, by the time of the file.
type change struct {
	id string
	at int64
}

// note takes down that a log has changed.
func (o *latest) note(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		o.changed[id] = true
	}
}

// take returns what was noted since the last call; ok is false at the first one.
func (o *latest) take() (changed map[string]bool, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	changed = o.changed
	o.changed = make(map[string]bool)
	return changed, changed != nil
}

// Latest lists the conversations, those first whose logs have changed last.
func (l *Ledger) Latest() ([]string, error) {
	dir, err := os.Open(l.home.ConversationsDir())
	if err != nil {
		return nil, fmt.Errorf("list conversations: %w", err)
	}
	defer dir.Close()
	l.latest.asking.Lock()
	defer l.latest.asking.Unlock()
	if changed, ok := l.latest.take(); !ok {
		l.latest.update(dir, l.refs.All(), nil)
	} else if len(changed) > 0 {
		l.latest.update(dir, slices.Collect(maps.Keys(changed)), changed)
	}
	return l.latest.ids(), nil
}

// update puts logs where they belong by the look of them. The caller holds asking.
func (o *latest) update(dir *os.File, ids []string, changed map[string]bool) {
	order := slices.DeleteFunc(o.order, func(c change) bool { return changed[c.id] })
	for _, id := range ids {
		if look, err := durable.LookAt(dir, maildir.LogName(id)); err == nil {
			order = append(order, change{id, look.Modified})
		}
	}
	slices.SortFunc(order, func(a, b change) int {
		return cmp.Or(cmp.Compare(b.at, a.at), strings.Compare(a.id, b.id))
	})
	o.order = order
}

func (o *latest) ids() []string {
	ids := make([]string, len(o.order))
	for i, c := range o.order {
		ids[i] = c.id
	}
	return ids
}
