package card

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ContactsFile is the name of the contacts in an agent's folder.
const ContactsFile = "contacts.json"

const (
	maxContactsSize = 1 << 20
	maxContacts     = 4096
)

// Whom an agent lets call it, write to it, and take it into conversations.
const (
	Anyone = "anyone"
	Known  = "known" // those it has written to, and those it allows
	Nobody = "nobody"
)

// Contacts are the exceptions from what an agent's card accepts. Each is an address with
// the host; how its name is spelt is for people.
type Contacts struct {
	Block []string `json:"block"` // never, whatever else is said
	Allow []string `json:"allow"` // always
}

// ReadContacts reads the contacts in an agent's folder. A missing file is empty. One
// that cannot be read is an error, and whoever asks is to accept nobody.
func ReadContacts(dir string) (Contacts, error) {
	path := filepath.Join(dir, ContactsFile)
	if durable.Missing(path) { // as a rule, and for each message that is sent
		return Contacts{}, nil
	}
	data, err := durable.ReadPlain(path, maxContactsSize)
	if errors.Is(err, fs.ErrNotExist) {
		return Contacts{}, nil
	}
	if err != nil {
		return Contacts{}, fmt.Errorf("read contacts: %w", err)
	}
	var c Contacts
	if err = json.Unmarshal(data, &c); err == nil {
		err = c.check()
	}
	if err != nil {
		return Contacts{}, fmt.Errorf("read contacts %q: %w", path, err)
	}
	return c, nil
}

// check refuses what would never match an agent: whoever wrote that means something else.
func (c Contacts) check() error {
	for _, s := range slices.Concat(c.Block, c.Allow) {
		if a, err := envelope.ParseAddress(s); err != nil || a.Host == "" {
			return fmt.Errorf("want Name@host, got %q", s)
		}
	}
	return nil
}

// Write puts the contacts into an agent's folder, durably.
func (c Contacts) Write(dir string) error {
	if len(c.Block) > maxContacts || len(c.Allow) > maxContacts {
		return fmt.Errorf("write contacts: over the limit of %d", maxContacts)
	}
	c.Block, c.Allow = append([]string{}, c.Block...), append([]string{}, c.Allow...)
	return durable.ReplaceJSON(filepath.Join(dir, ContactsFile), c, 0o600)
}

// Blocks reports whether an agent is blocked.
func (c Contacts) Blocks(a envelope.Address) bool { return lists(c.Block, a) }

// Allows reports whether an agent is always let in.
func (c Contacts) Allows(a envelope.Address) bool { return lists(c.Allow, a) }

func lists(list []string, a envelope.Address) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, a.Key()) })
}

// With returns the contacts with an agent on one of the lists, or on none: "block",
// "allow", or "".
func (c Contacts) With(a envelope.Address, list string) Contacts {
	other := func(s string) bool { return strings.EqualFold(s, a.Key()) }
	c.Block = slices.DeleteFunc(slices.Clone(c.Block), other)
	c.Allow = slices.DeleteFunc(slices.Clone(c.Allow), other)
	switch list {
	case "block":
		c.Block = append(c.Block, a.String())
	case "allow":
		c.Allow = append(c.Allow, a.String())
	}
	return c
}
