package hook

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	maxRead   = 64   // items that are read; more are only counted
	maxListed = 4096 // ids that a short reference is told from
	longRef   = 8    // digits of a reference where there are more
)

// inbox reads what waits for an agent.
type inbox struct {
	home     *maildir.Home
	box      *mailbox.Box
	contacts card.Contacts
	topics   map[string]Item // what the first line of a conversation says
	refs     map[string]*maildir.Refs
}

func openInbox(home *maildir.Home, agent string) *inbox {
	n := &inbox{
		home: home, box: mailbox.At(home.AgentDir(agent)),
		topics: make(map[string]Item), refs: make(map[string]*maildir.Refs),
	}
	if c, err := card.ReadContacts(n.box.Dir()); err == nil {
		n.contacts = c // else nobody is allowed
	}
	return n
}

// waits lists what waits, calls first. Of the messages it reads those that skip does not
// leave out.
func (n *inbox) waits(skip func(Item) bool) ([]Item, error) {
	signals, err := n.box.Signals()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // an agent that has no inbox yet
	}
	if err != nil {
		return nil, err
	}
	messages, err := n.box.Unseen()
	if err != nil {
		return nil, err
	}
	var list []Item
	read := 0
	for _, s := range signals {
		item := Item{Name: s.Name}
		if read++; read <= maxRead {
			item.Ref = n.ref("r", s.Request)
			n.fill(&item)
		}
		list = append(list, item)
	}
	read = 0
	for _, m := range messages {
		item := Item{Name: m.Name}
		if !skip(item) && read < maxRead {
			read++
			item.Ref = n.ref("c", m.Conversation) + "." + strings.Split(m.Name, ".")[2]
			n.fill(&item)
		}
		list = append(list, item)
	}
	return list, nil
}

// fill reads what an item says. One that cannot be read stays without.
func (n *inbox) fill(i *Item) {
	e, err := n.box.ReadItem(i.Name)
	if err != nil {
		return
	}
	i.Envelope, i.Topic, i.Allowed = e, e.Topic, n.contacts.Allows(e.From)
	if e.Seq > 0 {
		first := n.first(e.Conversation)
		i.Topic, i.Direct = first.Topic, first.Direct
	}
}

// first is what the first line of a conversation says of all that is in it.
func (n *inbox) first(conversation string) Item {
	if known, ok := n.topics[conversation]; ok {
		return known
	}
	var item Item
	if log, err := convlog.OpenReader(n.home.LogPath(conversation)); err == nil {
		defer log.Close()
		if line, err := log.At(1); err == nil {
			if e, err := envelope.Decode(line.Bytes); err == nil {
				item.Topic, item.Direct = e.Topic, len(e.Participants) == 2 && !e.Open
			}
		}
	}
	n.topics[conversation] = item
	return item
}

// ref is the short reference of a conversation or a call. Where there are so many that
// to look through them takes long, it is a longer one than others show.
func (n *inbox) ref(letter, id string) string {
	if _, known := n.refs[letter]; !known {
		n.refs[letter] = n.known(letter)
	}
	if refs := n.refs[letter]; refs != nil {
		return refs.Short(id)
	}
	digits := strings.ReplaceAll(id, "-", "")
	return letter + digits[max(0, len(digits)-longRef):]
}

// known are the ids that a reference is told from, nil where there are too many.
func (n *inbox) known(letter string) *maildir.Refs {
	folders, suffix, make := []string{n.home.ConversationsDir()}, ".jsonl", maildir.NewRefs
	if letter == "r" {
		folders, suffix, make = []string{n.home.OpenRequestsDir(), n.home.DoneRequestsDir()}, ".json", maildir.NewRequestRefs
		far, _ := filepath.Glob(filepath.Join(n.home.FarRequestsDir(), "*", "*")) // or there are none
		folders = append(folders, far...)
	}
	var ids []string
	for _, folder := range folders {
		names, more := some(folder, maxListed-len(ids))
		if more {
			return nil
		}
		for _, name := range names {
			id, ok := strings.CutSuffix(name, suffix)
			if _, err := envelope.ParseID(id); ok && err == nil {
				ids = append(ids, id)
			}
		}
	}
	return make(ids)
}

// some lists at most so many names of a folder, and reports whether it has more.
func some(folder string, n int) (names []string, more bool) {
	dir, err := os.Open(folder)
	if err != nil {
		return nil, false
	}
	defer dir.Close()
	names, err = dir.Readdirnames(n + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false
	}
	return names, len(names) > n
}
