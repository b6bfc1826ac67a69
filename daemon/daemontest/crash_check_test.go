package daemontest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// problems says what is wrong with the home after a run. The daemon has stopped.
func (c *crash) problems() []string {
	c.t.Helper()
	problems := c.failures
	report, err := fsck.Home(c.home.Dir)
	c.must(err)
	for _, f := range report.Findings {
		if f.Severity == fsck.Error || f.Kind == fsck.Raw || f.Kind == fsck.NotGiven {
			problems = append(problems, "fsck: "+f.String())
		}
	}
	ids, err := c.home.Conversations()
	c.must(err)
	stored := make(map[string][]*envelope.Envelope)
	noise := ""
	for _, id := range ids {
		lines, rest := c.readLog(id)
		noise += rest
		for _, e := range lines {
			stored[e.Content] = append(stored[e.Content], e)
		}
		problems = append(problems, c.checkGiven(id, lines)...)
	}
	for text, tok := range c.tokens {
		problems = append(problems, c.checkToken(text, tok, stored[text], noise)...)
	}
	slices.Sort(problems)
	return problems
}

// readLog reads the lines of a log that count, in the plainest way, and returns the
// rest as text.
func (c *crash) readLog(id string) (valid []*envelope.Envelope, noise string) {
	c.t.Helper()
	data, err := os.ReadFile(c.home.LogPath(id))
	c.must(err)
	var rest bytes.Buffer
	for line := range bytes.Lines(data) {
		e, err := envelope.Decode(line)
		if err == nil && e.Seq == int64(len(valid)+1) && bytes.HasSuffix(line, []byte("\n")) {
			valid = append(valid, e)
		} else if !bytes.HasPrefix(line, []byte(`{"from":`)) { // a shell's line that is whole must be adopted
			rest.Write(line)
		}
	}
	return valid, rest.String()
}

// checkToken checks that a message is stored as often as it has to be, and where its
// writer was told.
func (c *crash) checkToken(text string, tok *token, stored []*envelope.Envelope, noise string) (problems []string) {
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s: %s", text, fmt.Sprintf(format, args...)))
	}
	swallowed := tok.way.shell && strings.Contains(noise, `"`+text+`"`)
	switch {
	case len(stored) > 1:
		problem("is stored %d times: %s and %s", len(stored), stored[0].Append(nil), stored[1].Append(nil))
	case tok.way.bad && len(stored) > 0:
		problem("should have been refused, and is stored: %s", stored[0].Append(nil))
	case tok.acked && len(stored) == 0 && !tok.way.bad && !swallowed:
		problem("was acknowledged and is in no log")
	case tok.seq > 0 && len(stored) == 1 && stored[0].Seq != tok.seq:
		problem("was acknowledged as line %d and is line %d", tok.seq, stored[0].Seq)
	case len(stored) == 1 && stored[0].From.Name != tok.way.agent:
		problem("is by %s, want %s", stored[0].From, tok.way.agent)
	}
	if tok.way.drop && tok.acked {
		problems = append(problems, c.checkDrop(text, tok, stored)...)
	}
	return problems
}

// checkDrop checks that a drop is where it belongs, with the stamp in it.
func (c *crash) checkDrop(text string, tok *token, stored []*envelope.Envelope) (problems []string) {
	folder, want := mailbox.Sent, ""
	if tok.way.bad {
		folder, want = mailbox.Failed, "Nobody"
	}
	name := text + ".json"
	if tok.way.name == "text" {
		name = text + ".md"
	}
	data, err := os.ReadFile(filepath.Join(c.home.AgentDir(tok.way.agent), folder, name))
	if err != nil {
		failed, _ := os.ReadFile(filepath.Join(c.home.AgentDir(tok.way.agent), mailbox.Failed, name)) // it may be there
		return []string{fmt.Sprintf("%s: the drop is not in %s: %v; in failed is %q", text, filepath.Base(folder), err, failed)}
	}
	if len(stored) == 1 {
		want = stored[0].ID
	}
	if !bytes.Contains(data, []byte(want)) {
		return []string{fmt.Sprintf("%s: the drop in %s says %s, want %q in it", text, filepath.Base(folder), data, want)}
	}
	return nil
}

// checkLists checks that the daemon knows what waits in each inbox.
func (c *crash) checkLists() {
	c.t.Helper()
	for _, name := range crashAgents {
		list, err := c.client(name).Inbox(c.t.Context(), 1)
		if err != nil {
			c.fail("inbox of "+name, err)
			continue
		}
		if files, listed := len(c.names(name, mailbox.InboxNew)), len(list.Items)+list.More; files != listed {
			c.fail("inbox of "+name, fmt.Errorf("%d messages are listed, and %d files are there", listed, files))
		}
	}
}

const keptSeen = 10_000 // files in inbox/cur; more are discarded when a daemon starts

// checkGiven checks that everybody in a conversation was given every message of the
// others. Nobody comes or goes in these conversations.
func (c *crash) checkGiven(id string, lines []*envelope.Envelope) (problems []string) {
	if len(lines) == 0 {
		return []string{id + ": the log has no lines"}
	}
	for _, member := range lines[0].Participants {
		seen := c.names(member.Name, mailbox.InboxCur)
		given := make(map[string]bool)
		for _, name := range append(c.names(member.Name, mailbox.InboxNew), seen...) {
			given[name] = true
		}
		cursors, err := mailbox.At(c.home.AgentDir(member.Name)).Cursors()
		c.must(err)
		for _, e := range lines[1:] {
			item := mailbox.ItemOf(id, e.Seq, e.Timestamp)
			discarded := len(seen) >= keptSeen && e.Seq <= cursors[id].Seen
			streamed := member.Name == "Echo" && c.streamed[item.Name]
			if !e.From.Same(member) && !given[item.Name] && !discarded && !streamed {
				problems = append(problems, fmt.Sprintf("%s was not given %s", member.Name, e.Append(nil)))
			}
		}
	}
	return problems
}

// names lists the files in a folder of an agent.
func (c *crash) names(agent, folder string) []string {
	c.t.Helper()
	f, err := os.Open(filepath.Join(c.home.AgentDir(agent), folder))
	c.must(err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	c.must(err)
	return names
}

// robReader takes a message away that its reader has seen.
func (c *crash) robReader() {
	c.t.Helper()
	cursors, err := mailbox.At(c.home.AgentDir("Nova")).Cursors()
	c.must(err)
	for _, name := range c.names("Nova", mailbox.InboxCur) {
		if item, ok := mailbox.ParseItem(name); ok && item.Seq > 1 && item.Seq <= cursors[item.Conversation].Seen {
			c.must(os.Remove(filepath.Join(c.home.AgentDir("Nova"), mailbox.InboxCur, name)))
			return
		}
	}
	c.t.Fatal("Nova has seen nothing that could be taken away")
}

// robSender takes away a drop that was sent.
func (c *crash) robSender() {
	c.t.Helper()
	names := c.names("Atlas", mailbox.Sent)
	c.must(os.Remove(filepath.Join(c.home.AgentDir("Atlas"), mailbox.Sent, names[0])))
}
