// Package card is what an agent says of itself: the file agent.json in its folder.
package card

import (
	"bytes"
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

// File is the name of a card in the agent's folder.
const File = "agent.json"

const (
	maxSize         = 64 << 10
	maxCapabilities = 64
	maxCapability   = 64
	maxDescription  = 2000
	maxPlatform     = 100
)

// Card describes an agent. Fields that this version does not know are kept.
type Card struct {
	ID           string
	Name         string // with the agent's own spelling
	Capabilities []string
	Description  string
	Platform     string
	Accepts      string // Anyone, Known or Nobody; empty for Anyone
	Unregistered bool   // it takes no new mail; its folder and history stay
	Human        bool   // it is the person who runs the host, and no program
	Unknown      []envelope.Field
}

// Read reads the card in an agent's folder. A missing card is fs.ErrNotExist.
func Read(dir string) (Card, error) {
	path := filepath.Join(dir, File)
	data, err := durable.ReadPlain(path, maxSize)
	if err != nil {
		return Card{}, fmt.Errorf("read card: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Card{}, fmt.Errorf("read card %q: %w", path, err)
	}
	if !strings.EqualFold(c.Name, filepath.Base(dir)) {
		return Card{}, fmt.Errorf("read card %q: the name is %q, want that of the folder", path, c.Name)
	}
	return c, nil
}

// Parse reads a card from JSON.
func Parse(data []byte) (Card, error) {
	var c Card
	targets := map[string]any{
		"id": &c.ID, "name": &c.Name, "capabilities": &c.Capabilities,
		"description": &c.Description, "platform": &c.Platform, "accepts": &c.Accepts, "unregistered": &c.Unregistered,
		"human": &c.Human,
	}
	err := envelope.Members(data, func(name string, value json.RawMessage) error {
		target, known := targets[name]
		if !known {
			c.Unknown = append(c.Unknown, envelope.Field{Name: name, Value: bytes.Clone(value)})
			return nil
		}
		if err := json.Unmarshal(value, target); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return Card{}, err
	}
	return c, c.Check()
}

// Check reports what is wrong with a card.
func (c Card) Check() error {
	if err := envelope.CheckName(c.Name); err != nil {
		return err
	}
	if len(c.Capabilities) > maxCapabilities {
		return fmt.Errorf("%d capabilities are over the limit of %d", len(c.Capabilities), maxCapabilities)
	}
	for _, s := range c.Capabilities {
		if !isCapability(s) {
			return fmt.Errorf("capability %q: want one word of at most %d bytes", s, maxCapability)
		}
	}
	if len(c.Description) > maxDescription || strings.ContainsRune(c.Description, 0) {
		return fmt.Errorf("description: want text of at most %d bytes", maxDescription)
	}
	if len(c.Platform) > maxPlatform || strings.ContainsAny(c.Platform, "\r\n\x00") {
		return fmt.Errorf("platform: want one line of at most %d bytes", maxPlatform)
	}
	switch c.Accepts {
	case "", Anyone, Known, Nobody:
	default:
		return fmt.Errorf("accepts %q: want anyone, known or nobody", c.Accepts)
	}
	return nil
}

func isCapability(s string) bool {
	return s != "" && len(s) <= maxCapability && !strings.ContainsAny(s, ", \t\r\n\x00")
}

// Fit returns what Check accepts of a card that another host has sent: the name as it is,
// long texts cut, and what is no capability left out.
func (c Card) Fit() Card {
	fit := Card{ID: c.ID, Name: c.Name, Description: cut(c.Description, maxDescription), Platform: cut(oneLine(c.Platform), maxPlatform), Accepts: Anyone}
	for _, s := range c.Capabilities {
		if isCapability(s) && len(fit.Capabilities) < maxCapabilities {
			fit.Capabilities = append(fit.Capabilities, s)
		}
	}
	if c.Accepts == Known || c.Accepts == Nobody {
		fit.Accepts = c.Accepts
	}
	return fit
}

// cut is at most n bytes of a text, in whole characters and without NUL.
func cut(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}

// HasAll reports whether the agent has all the capabilities.
func (c Card) HasAll(capabilities []string) bool {
	for _, want := range capabilities {
		if !slices.ContainsFunc(c.Capabilities, func(has string) bool { return strings.EqualFold(has, want) }) {
			return false
		}
	}
	return true
}

// Mentions reports whether all words of a text stand in the name, the description, the
// platform or the capabilities. A text without words is mentioned everywhere.
func (c Card) Mentions(text string) bool {
	about := strings.ToLower(strings.Join(append([]string{c.Name, c.Description, c.Platform}, c.Capabilities...), " "))
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if !strings.Contains(about, word) {
			return false
		}
	}
	return true
}

// Write puts the card into an agent's folder, in place of an older one, durably.
func (c Card) Write(dir string) error { return c.write(dir, durable.Replace) }

func (c Card) write(dir string, put func(path string, data []byte, perm fs.FileMode) error) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	data, err := c.encode()
	if err == nil && len(data) > maxSize { // Read would refuse it
		err = fmt.Errorf("%d bytes are over the limit of %d", len(data), maxSize)
	}
	if err != nil {
		return fmt.Errorf("write card: %w", err)
	}
	return put(filepath.Join(dir, File), data, 0o600)
}

func (c Card) encode() ([]byte, error) {
	fields := []envelope.Field{
		{Name: "id", Value: quote(c.ID)},
		{Name: "name", Value: quote(c.Name)},
		{Name: "capabilities", Value: list(c.Capabilities)},
		{Name: "description", Value: quote(c.Description)},
		{Name: "platform", Value: quote(c.Platform)},
		{Name: "unregistered", Value: json.RawMessage(fmt.Sprint(c.Unregistered))},
	}
	if c.Accepts != "" {
		fields = append(fields, envelope.Field{Name: "accepts", Value: quote(c.Accepts)})
	}
	if c.Human {
		fields = append(fields, envelope.Field{Name: "human", Value: json.RawMessage("true")})
	}
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, f := range append(fields, c.Unknown...) {
		if i > 0 {
			buf.WriteByte(',')
		}
		buf.Write(quote(f.Name))
		buf.WriteByte(':')
		buf.Write(f.Value)
	}
	buf.WriteByte('}')
	var out bytes.Buffer
	if err := json.Indent(&out, buf.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func quote(s string) json.RawMessage {
	data, _ := json.Marshal(s) // a string always has a JSON form
	return data
}

func list(values []string) json.RawMessage {
	data, _ := json.Marshal(append([]string{}, values...)) // strings always have a JSON form
	return data
}

// Complete reads the card in an agent's folder, and where there is none, or one
// without an id, writes one: a folder that somebody made by hand is an agent. A card that
// somebody else puts there meanwhile stays as it is.
func Complete(dir string) (Card, error) {
	c, err := Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		c = Card{ID: envelope.NewID(), Name: filepath.Base(dir)}
		if err = c.write(dir, durable.Create); errors.Is(err, fs.ErrExist) {
			c, err = Read(dir)
		}
	}
	if err != nil || c.ID != "" {
		return c, err
	}
	c.ID = envelope.NewID()
	return c, c.Write(dir)
}
