package fsck

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	maxRecord = 4 * envelope.MaxLine
	maxTokens = 4 << 20
)

// readCalls checks the records of calls.
func (c *homeCheck) readCalls() {
	for _, dir := range recordDirs(c.home) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // before the first start there is none
			c.found(Error, BadCall, dir, "the records of calls cannot be read: %v", err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				c.readCall(filepath.Join(dir, e.Name()))
			}
		}
	}
}

func (c *homeCheck) readCall(path string) {
	stem, ok := strings.CutSuffix(filepath.Base(path), ".json")
	if id, err := envelope.ParseID(stem); !ok || err != nil || id != stem {
		c.found(Warning, BadCall, path, "the name is none that duo gives, want ID.json; move the file away")
		return
	}
	var record struct{ ID string }
	data, err := durable.ReadPlain(path, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return // it was put away just now
	}
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err == nil && record.ID != stem {
		err = fmt.Errorf("it has the id %q", record.ID)
	}
	if err != nil {
		c.found(Error, BadCall, path, "the call cannot go on: %v; copy the file from a backup, or remove it and call again", err)
	}
}

// readTokens checks the list of the tokens that were made.
func (c *homeCheck) readTokens() {
	data, err := durable.ReadPlain(c.home.TokensPath(), maxTokens)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, new([]struct{ ID, Hash string }))
	}
	if err != nil {
		c.found(Error, BadToken, c.home.TokensPath(), "only agents' own tokens are good: %v; copy the file from a backup, or remove it while the daemon is stopped and make new tokens", err)
	}
}

func (c *homeCheck) found(s Severity, kind Kind, path, format string, args ...any) {
	c.Findings = append(c.Findings, Finding{Severity: s, Kind: kind, Path: path, Offset: NowhereInLog, Text: fmt.Sprintf(format, args...)})
}

// signal checks a file in the inbox that says how far a call is.
func (a *agent) signal(folder string, s mailbox.Signal) {
	path := filepath.Join(folder, s.Name)
	data, err := a.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // it was answered just now
	}
	var e *envelope.Envelope
	if err == nil {
		e, err = envelope.Decode(data)
	}
	switch {
	case err != nil:
		a.found(Warning, TornItem, path, 0, "the file cannot be read: %v; remove it and start the daemon again: while the call is open it is written again", err)
	case e.Request != s.Request:
		a.found(Error, Altered, path, 0, "the file is about the call %q, not the one that its name says; move it away", e.Request)
	case !a.hasRecord(s.Request):
		a.found(Warning, BadCall, path, 0, "there is no record of the call, so it cannot be answered; move the file away")
	}
}

// recordDirs lists the folders with records of calls, open before done: records move that
// way. Those of other hosts' calls have folders of their own.
func recordDirs(home *maildir.Home) []string {
	dirs := []string{home.OpenRequestsDir(), home.DoneRequestsDir()}
	hosts, _ := os.ReadDir(home.FarRequestsDir()) // where there are none, nobody of another host has called
	for _, e := range hosts {
		if e.IsDir() {
			far := filepath.Join(home.FarRequestsDir(), e.Name())
			dirs = append(dirs, filepath.Join(far, "open"), filepath.Join(far, "done"))
		}
	}
	return dirs
}

func (a *agent) hasRecord(request string) bool {
	for _, dir := range recordDirs(a.home) {
		if _, err := os.Lstat(filepath.Join(dir, request+".json")); err == nil {
			return true
		}
	}
	return false
}

// readSettings checks what the agent has said of itself and of others.
func (a *agent) readSettings() {
	if _, err := card.ReadContacts(a.box.Dir()); err != nil {
		a.found(Error, BadContacts, card.ContactsFile, 0, "nobody can call the agent or write to it: %v; mend the file or remove it", err)
	}
	if _, err := card.ReadPresence(a.box.Dir()); err != nil {
		a.found(Warning, BadPresence, card.PresenceFile, 0, "whether the agent is busy is not known: %v; remove the file", err)
	}
	info, err := os.Lstat(filepath.Join(a.box.Dir(), tokenFile))
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		a.found(Warning, BadToken, tokenFile, 0, "others can read the token, so it is not good; run: chmod 600 %q", filepath.Join(a.box.Dir(), tokenFile))
	}
}

const tokenFile = "token"
