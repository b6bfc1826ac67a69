package fsck

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// agent is one agent's folder.
type agent struct {
	findings
	home    *maildir.Home
	name    string // of the folder
	box     *mailbox.Box
	items   map[string]map[int64][]*item // by conversation and number
	cursors map[string]mailbox.Cursor
	links   map[string]bool // by conversation
}

// item is a file in the inbox.
type item struct {
	mailbox.Item
	folder string // mailbox.InboxNew or mailbox.InboxCur
	inLog  bool
}

func (a *agent) found(s Severity, kind Kind, path string, seq int64, format string, args ...any) {
	a.add(Finding{Severity: s, Kind: kind, Path: filepath.Join(a.box.Dir(), path), Offset: NowhereInLog, Seq: seq, Text: fmt.Sprintf(format, args...)})
}

func readAgent(home *maildir.Home, name string) *agent {
	a := &agent{home: home, name: name, box: mailbox.At(home.AgentDir(name)), items: make(map[string]map[int64][]*item), links: make(map[string]bool)}
	if _, err := card.Read(a.box.Dir()); errors.Is(err, fs.ErrNotExist) {
		a.found(Note, BadAgent, card.File, 0, "there is no card yet; the daemon writes one when it runs")
	} else if err != nil {
		a.found(Error, BadAgent, card.File, 0, "the agent cannot be used: %v; mend the file, or remove it and register the agent again", err)
	}
	var err error
	if a.cursors, err = a.box.Cursors(); err != nil {
		a.found(Error, BadCursors, cursors, 0, "the agent gets no mail: %v; stop the daemon and remove the file: what is not in inbox/cur is delivered again", err)
	}
	// New before cur: a file that moves meanwhile is found twice rather than not at all.
	a.readInbox(mailbox.InboxNew)
	a.readInbox(mailbox.InboxCur)
	a.readLinks()
	a.readOutbox()
	a.readSettings()
	return a
}

const cursors = "cursors.json"

// mentioned are the conversations that the agent's files speak of.
func (a *agent) mentioned() map[string]bool {
	ids := maps.Clone(a.links)
	for id := range a.items {
		ids[id] = true
	}
	for id := range a.cursors {
		ids[id] = true
	}
	return ids
}

// names lists the files of a folder without hidden ones.
func (a *agent) names(folder string) []string {
	entries, err := os.ReadDir(filepath.Join(a.box.Dir(), folder))
	if errors.Is(err, fs.ErrNotExist) {
		a.found(Warning, BadAgent, folder, 0, "the folder is missing; the daemon makes it when it runs")
		return nil
	}
	if err != nil {
		a.found(Error, BadAgent, folder, 0, "the folder cannot be read: %v", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (a *agent) readInbox(folder string) {
	for _, name := range a.names(folder) {
		if signal, ok := mailbox.ParseSignal(name); ok {
			a.signal(folder, signal)
			continue
		}
		parsed, ok := mailbox.ParseItem(name)
		if !ok {
			a.found(Warning, BadItem, filepath.Join(folder, name), 0, "the name is none that duo gives, want TIME.CONVERSATION.SEQ.json or TIME.call.ID.json; move the file away")
			continue
		}
		lines := a.items[parsed.Conversation]
		if lines == nil {
			lines = make(map[int64][]*item)
			a.items[parsed.Conversation] = lines
		}
		lines[parsed.Seq] = append(lines[parsed.Seq], &item{Item: parsed, folder: folder})
	}
}

func (a *agent) readLinks() {
	for _, name := range a.names(mailbox.Links) {
		path := filepath.Join(mailbox.Links, name)
		id, ok := maildir.LogID(name)
		target, err := os.Readlink(filepath.Join(a.box.Dir(), path))
		want := filepath.Join("..", "..", "..", filepath.Base(a.home.ConversationsDir()), name)
		switch {
		case !ok:
			a.found(Warning, BadLink, path, 0, "the name is not that of a conversation's log; move it away")
			continue
		case err != nil:
			a.found(Error, BadLink, path, 0, "want a link to the log, got something else: what is written here reaches nobody; move it away and start the daemon again")
		case filepath.Clean(target) != want:
			a.found(Error, BadLink, path, 0, "the link leads to %q, want %q; remove it and start the daemon again", target, want)
		}
		a.links[id] = true
	}
}

func (a *agent) readOutbox() {
	if n := len(a.names(mailbox.OutboxNew)); n > 0 {
		a.found(Note, WaitingDrops, mailbox.OutboxNew, 0, "%d drops wait here; the daemon takes them when it runs", n)
	}
}

// owed wants a line to be where its recipient finds it.
func (a *agent) owed(want mailbox.Item, at entry) {
	if a.cursors[want.Conversation].HasSeen(at.seq) || a.has(want) {
		return
	}
	for _, folder := range []string{mailbox.InboxNew, mailbox.InboxCur} { // it may have come since
		if _, err := os.Lstat(filepath.Join(a.box.Dir(), folder, want.Name)); err == nil {
			return
		}
	}
	path := filepath.Join(mailbox.InboxNew, want.Name)
	if at.seq <= a.cursors[want.Conversation].Delivered {
		a.found(Warning, TakenAway, path, at.seq, "the message was delivered and is not known to be seen, but has no file any more; where a live stream has shown it that is fine, else start the daemon again and it is written again")
	} else {
		a.found(Note, NotGiven, path, at.seq, "the message is not delivered yet; the daemon does it when it runs")
	}
}

func (a *agent) has(want mailbox.Item) bool {
	return slices.ContainsFunc(a.items[want.Conversation][want.Seq], func(i *item) bool { return i.Name == want.Name })
}

// compare holds the agent's files against the line that they are copies of.
func (a *agent) compare(conversation string, at entry) {
	for _, i := range a.items[conversation][at.seq] {
		i.inLog = true
		if at.envelope == nil {
			continue // the log has its own finding
		}
		if want := mailbox.ItemOf(conversation, at.seq, at.envelope.Timestamp); i.Name != want.Name {
			a.found(Error, Altered, filepath.Join(i.folder, i.Name), at.seq, "the line has the timestamp %d, so its file is named %s; move this one away", want.Time, want.Name)
			continue
		}
		a.content(i, at)
	}
}

func (a *agent) content(i *item, at entry) {
	path := filepath.Join(i.folder, i.Name)
	data, err := a.read(path)
	if errors.Is(err, fs.ErrNotExist) { // it was seen and moved just now
		path = filepath.Join(mailbox.InboxCur, i.Name)
		data, err = a.read(path)
	}
	line, ended := bytes.CutSuffix(data, []byte("\n"))
	switch {
	case errors.Is(err, fs.ErrNotExist): // and discarded
	case err != nil:
		a.found(Error, BadItem, path, at.seq, "the file cannot be used: %v; remove it and start the daemon again", err)
	case ended && bytes.Equal(line, at.bytes):
	case bytes.HasPrefix(at.bytes, bytes.TrimRight(data, "\x00")):
		a.found(Warning, TornItem, path, at.seq, "the file is empty or cut off, as a power cut leaves it; remove it and start the daemon again: what was not seen is written again")
	default:
		a.found(Error, Altered, path, at.seq, "the file differs from the line in the log, which is the truth; remove it and start the daemon again")
	}
}

// read reads a file that others may have put into the folder.
func (a *agent) read(path string) ([]byte, error) {
	root, err := os.OpenRoot(a.box.Dir())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is no regular file"))
	}
	return io.ReadAll(io.LimitReader(f, envelope.MaxLine+2))
}

// endOfLog checks what is to be said of the agent when a log was read.
func (a *agent) endOfLog(conversation string, last int64, member bool) {
	cursor, known := a.cursors[conversation]
	if known && (cursor.Seen > last || cursor.Delivered > last || cursor.Seen < 0 || cursor.Seen > cursor.Delivered) {
		a.found(Error, CursorAhead, cursors, 0, "in %s the agent is said to be given line %d and to have seen line %d, but the log ends at line %d: messages are passed over; stop the daemon and remove the file: what is not in inbox/cur is delivered again", conversation, cursor.Delivered, cursor.Seen, last)
	}
	switch linked := a.links[conversation]; {
	case member && !linked && known:
		a.found(Warning, MissingLink, filepath.Join(mailbox.Links, conversation+".jsonl"), 0, "there is no link to a conversation of the agent's; the daemon makes it when it starts")
	case !member && linked:
		a.found(Warning, BadLink, filepath.Join(mailbox.Links, conversation+".jsonl"), 0, "the agent never was in the conversation that the link leads to; remove the link")
	}
}

// finish checks what is left when all logs were read.
func (a *agent) finish(logs []string) {
	for conversation, lines := range a.items {
		for _, items := range lines {
			a.leftOver(conversation, items)
		}
	}
	for id := range a.links {
		if _, ok := slices.BinarySearch(logs, id); !ok {
			a.found(Error, BadLink, filepath.Join(mailbox.Links, id+".jsonl"), 0, "there is no such log in this home; copy it from a backup, or remove the link")
		}
	}
	for id := range a.cursors {
		if _, ok := slices.BinarySearch(logs, id); !ok {
			a.found(Warning, CursorAhead, cursors, 0, "a cursor is for the conversation %s, which has no log in this home; copy the log from a backup, or remove the cursor while the daemon is stopped", id)
		}
	}
}

func (a *agent) leftOver(conversation string, items []*item) {
	for _, i := range items {
		if !i.inLog {
			a.found(Error, NotInLog, filepath.Join(i.folder, i.Name), i.Seq, "no log has this line; move the file away")
		}
	}
	waiting, both := items[0], len(items) > 1 && items[0].Name == items[1].Name // new was read first
	seen := waiting.Seq <= a.cursors[conversation].Seen
	if waiting.folder != mailbox.InboxNew || !both && !seen {
		return
	}
	path := filepath.Join(mailbox.InboxNew, waiting.Name)
	if _, err := os.Lstat(filepath.Join(a.box.Dir(), path)); err != nil {
		return // it was moved just now
	}
	if both {
		a.found(Warning, SeenAndNew, path, waiting.Seq, "the message is in inbox/cur too, so it was seen; remove this file, the log keeps the message")
	} else {
		a.found(Warning, SeenAndNew, path, waiting.Seq, "the cursor says that the message was seen; start the daemon again and it moves the file to inbox/cur")
	}
}
