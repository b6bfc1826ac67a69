// Package fsck checks the files of a home and tells what is wrong with them: that
// each log is whole and in order, that each agent was given what it was owed, and
// that its mailbox holds nothing else.
//
// It reads and changes nothing, and needs no daemon. It may run beside one: what
// moves while it looks is looked at again before it is reported. It reads logs with a
// reader of its own, so that it does not share the mistakes of those that it checks.
package fsck

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says how much a finding matters.
type Severity int

// The severities. A note is how things look at times; a warning wants a look; an error
// means that a promise of duo's is broken.
const (
	Note Severity = iota
	Warning
	Error
)

func (s Severity) String() string { return [...]string{"note", "warning", "error"}[s] }

// MarshalText is String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Kind is one word for what was found. Kinds are stable; texts are not.
type Kind string

// What is found in logs.
const (
	Torn         Kind = "torn"         // noise: a line that was cut off
	Swallowed    Kind = "swallowed"    // noise: a shell's message behind a torn line
	NULs         Kind = "nuls"         // noise: NUL bytes, as a power cut leaves them
	NoObject     Kind = "no-object"    // noise: no JSON object
	NoSeq        Kind = "no-seq"       // noise: an object without a number
	Repeat       Kind = "repeat"       // noise: a number that was there before
	TooLong      Kind = "too-long"     // noise: over the limit of a line
	Unterminated Kind = "unterminated" // the last line has no newline
	Damage       Kind = "damage"       // numbers are missing
	Raw          Kind = "raw"          // a shell's message that is not adopted
	AdoptedTwice Kind = "adopted-twice"
	DuplicateID  Kind = "duplicate-id"
	Invalid      Kind = "invalid"      // no valid envelope
	TimeBack     Kind = "time-back"    // a timestamp before that of the line before
	Conversation Kind = "conversation" // another conversation's line
	NoCreate     Kind = "no-create"    // the first line creates nothing
	Unreadable   Kind = "unreadable"
)

// What is found in the folders of agents.
const (
	BadAgent     Kind = "bad-agent"     // a folder or card that is no agent's
	BadItem      Kind = "bad-item"      // a file in the inbox that is none of duo's
	TornItem     Kind = "torn-item"     // a file in the inbox that is cut off
	Altered      Kind = "altered"       // a file in the inbox that differs from the log
	NotInLog     Kind = "not-in-log"    // a file in the inbox for a line that no log has
	SeenAndNew   Kind = "seen-and-new"  // a message in new that was seen
	NotGiven     Kind = "not-given"     // a message that the agent did not get yet
	TakenAway    Kind = "taken-away"    // a message that the agent got and that is gone
	BadCursors   Kind = "bad-cursors"   // cursors.json cannot be read
	CursorAhead  Kind = "cursor-ahead"  // a cursor behind the end of its log
	MissingLink  Kind = "missing-link"  // no link to a conversation of the agent's
	BadLink      Kind = "bad-link"      // a link to something else
	WaitingDrops Kind = "waiting-drops" // drops that nobody has taken
	SetAside     Kind = "set-aside"     // lines that were cut off a log of another host, which has gone another way
	BadCall      Kind = "bad-call"      // a record of a call that cannot be read, or a file in the inbox without one
	BadBlob      Kind = "bad-blob"      // a file of a message that is not what its name says
	NoBlob       Kind = "no-blob"       // a file that a message brings and that is gone
	BadContacts  Kind = "bad-contacts"  // contacts.json cannot be read
	BadPresence  Kind = "bad-presence"  // presence.json cannot be read
	BadToken     Kind = "bad-token"     // a file of tokens that cannot be used
)

// NowhereInLog is the offset of a finding that is about no place in a log.
const NowhereInLog = -1

// Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	Path     string   `json:"path"`
	Offset   int64    `json:"offset"`        // byte in the log, or NowhereInLog
	Seq      int64    `json:"seq,omitempty"` // of the line that it is about
	Text     string   `json:"text"`          // what is wrong, and what to do
}

func (f Finding) String() string {
	place := f.Path
	if f.Offset >= 0 {
		place += fmt.Sprintf(", byte %d", f.Offset)
	}
	if f.Seq > 0 {
		place += fmt.Sprintf(", line %d", f.Seq)
	}
	return fmt.Sprintf("%s: %s: %s", f.Severity, place, f.Text)
}

// maxFindings is how many findings of one kind are kept for one log or agent.
const maxFindings = 1000

// findings collects what is found.
type findings struct {
	list  []Finding
	kinds map[Kind]int
}

func (f *findings) add(one Finding) {
	if f.kinds == nil {
		f.kinds = make(map[Kind]int)
	}
	f.kinds[one.Kind]++
	if f.kinds[one.Kind] <= maxFindings {
		f.list = append(f.list, one)
	}
}

// sorted is what was found, by path and place, with a last word on what was left out.
func (f *findings) sorted(path string) []Finding {
	for kind, n := range f.kinds {
		if n > maxFindings {
			f.list = append(f.list, Finding{
				Severity: Warning, Kind: kind, Path: path, Offset: NowhereInLog,
				Text: fmt.Sprintf("there are %d more findings of this kind, which are not listed", n-maxFindings),
			})
		}
	}
	slices.SortStableFunc(f.list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Kind, b.Kind))
	})
	return f.list
}

// Worst is the highest severity among findings, and false where there are none.
func Worst(list []Finding) (Severity, bool) {
	worst := Note
	for _, f := range list {
		worst = max(worst, f.Severity)
	}
	return worst, len(list) > 0
}
