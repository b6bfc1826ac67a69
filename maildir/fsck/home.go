package fsck

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// HomeReport is what Home found.
type HomeReport struct {
	Dir      string    `json:"dir"`
	Agents   int       `json:"agents"`
	Logs     int       `json:"logs"`
	Lines    int64     `json:"lines"` // valid ones, of all logs
	Noise    int64     `json:"noise"`
	Findings []Finding `json:"findings"`
}

// Home checks a home: every log, every agent's folder, and the one against the other.
// The error tells that there is no home, or that a folder could not be read;
// everything else is a finding.
func Home(dir string) (HomeReport, error) {
	home, err := maildir.Open(dir)
	if err != nil {
		return HomeReport{}, err
	}
	c := &homeCheck{home: home, HomeReport: HomeReport{Dir: dir}, agents: make(map[string]*agent), about: make(map[string][]*agent), lacking: make(map[string]bool)}
	if c.imported, err = home.Imported(); err != nil {
		return HomeReport{}, err
	}
	// Agents first: the logs that are read later have every line that an inbox has.
	if err := c.readAgents(); err != nil {
		return HomeReport{}, err
	}
	ids, err := c.conversations()
	if err != nil {
		return HomeReport{}, err
	}
	for _, id := range ids {
		c.log(id)
	}
	c.readBlobs()
	c.readCalls()
	c.readTokens()
	for _, name := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[name]
		a.finish(ids)
		c.Findings = append(c.Findings, a.sorted(a.box.Dir())...)
	}
	return c.HomeReport, nil
}

type homeCheck struct {
	HomeReport
	home    *maildir.Home
	agents  map[string]*agent   // by folder name
	about   map[string][]*agent // by conversation: whose files speak of it
	lacking map[string]bool     // files of messages, by path, that are gone

	imported map[string]int64 // by conversation: the line through which it is history
}

func (c *homeCheck) readAgents() error {
	entries, err := os.ReadDir(c.home.AgentsDir())
	if err != nil {
		return fmt.Errorf("check agents: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, "."):
		case !e.IsDir() || envelope.CheckName(name) != nil || strings.ToLower(name) != name:
			c.Findings = append(c.Findings, Finding{
				Severity: Warning, Kind: BadAgent, Path: filepath.Join(c.home.AgentsDir(), name), Offset: NowhereInLog,
				Text: "this is no folder with an agent's name, which is in lower case, so nobody gets mail here; rename it or move it away",
			})
		default:
			a := readAgent(c.home, name)
			c.agents[name] = a
			for id := range a.mentioned() {
				c.about[id] = append(c.about[id], a)
			}
		}
	}
	c.Agents = len(c.agents)
	return nil
}

// conversations lists the logs, sorted by the names of their files.
func (c *homeCheck) conversations() (ids []string, err error) {
	entries, err := os.ReadDir(c.home.ConversationsDir())
	if err != nil {
		return nil, fmt.Errorf("check logs: %w", err)
	}
	for _, e := range entries {
		if id, _, cut, ok := maildir.ForkID(e.Name()); ok {
			c.setAside(id, e.Name(), cut)
		}
		switch id, ok := maildir.LogID(e.Name()); {
		case ok && e.Type().IsRegular():
			ids = append(ids, id)
		case ok:
			c.unreadable(id, errors.New("it is no plain file"))
		}
	}
	return ids, nil
}

// setAside notes lines of a conversation that are not in its log.
func (c *homeCheck) setAside(id, name string, cut bool) {
	f := Finding{
		Severity: Note, Kind: SetAside, Path: filepath.Join(c.home.ConversationsDir(), name), Offset: NowhereInLog,
		Text: fmt.Sprintf("lines of conversation %s that its host had lost when it went on from a backup; nothing to do", id),
	}
	if cut {
		f.Text = fmt.Sprintf("lines of conversation %s that its host has not: what is to be done about them is done at the next link with that host", id)
	}
	c.Findings = append(c.Findings, f)
}

func (c *homeCheck) unreadable(id string, cause error) {
	c.Findings = append(c.Findings, Finding{
		Severity: Error, Kind: Unreadable, Path: c.home.LogPath(id), Offset: NowhereInLog,
		Text: fmt.Sprintf("the log cannot be read, so its conversation rests: %v", cause),
	})
}

// log checks one log, and what the agents have of it.
func (c *homeCheck) log(id string) {
	p := &pass{homeCheck: c, id: id, in: make(map[string]*agent), ever: make(map[*agent]bool)}
	report, err := checkLog(c.home.LogPath(id), c.home.Host.ID, p.line)
	if errors.Is(err, fs.ErrNotExist) {
		return // it was removed just now
	}
	c.Logs++
	if err != nil {
		c.unreadable(id, err)
	}
	c.Lines += report.Lines
	c.Noise += report.Noise
	c.Findings = append(c.Findings, report.Findings...)
	for _, a := range c.about[id] {
		a.endOfLog(id, report.LastSeq, p.ever[a])
	}
}

// pass goes through one log with all agents of this home. Who is owed what follows
// from the lines alone.
type pass struct {
	*homeCheck
	id   string
	in   map[string]*agent // participants that have a folder here, by the key of their address
	ever map[*agent]bool   // who is or was in
}

func (p *pass) line(at entry) {
	if e := at.envelope; e != nil {
		p.enter(e)
		p.attached(at)
		item := mailbox.ItemOf(p.id, at.seq, e.Timestamp)
		for key, a := range p.in {
			if owed(e, key) && at.seq > p.imported[p.id] {
				a.owed(item, at)
			}
		}
	}
	for _, a := range p.about[p.id] {
		a.compare(p.id, at)
	}
	if e := at.envelope; e != nil && e.Type == envelope.Leave {
		delete(p.in, e.From.Key())
	}
}

func (p *pass) enter(e *envelope.Envelope) {
	var come []envelope.Address
	switch {
	case e.Type == envelope.Join:
		come = []envelope.Address{e.From}
	case e.Type == envelope.System && (e.Event == envelope.EventCreate && e.Seq == 1 || e.Event == envelope.EventInvite):
		come = e.Participants
	}
	for _, address := range come {
		a := p.agents[strings.ToLower(address.Name)]
		if a != nil && p.home.Address(a.name).Same(address) {
			p.in[address.Key()] = a
			p.ever[a] = true
		}
	}
}

// owed reports whether a line is for the participant with the key: what others say,
// that they leave or close, that it is invited, and what could not be delivered.
func owed(e *envelope.Envelope, key string) bool {
	isParticipant := slices.ContainsFunc(e.Participants, func(a envelope.Address) bool { return a.Key() == key })
	own := e.From.Key() == key
	switch e.Type {
	case envelope.Message, envelope.Leave:
		return !own
	case envelope.System:
		switch e.Event {
		case envelope.EventClose:
			return !own
		case envelope.EventRestored:
			return true
		case envelope.EventCreate:
			return !own && isParticipant && !e.Auto
		case envelope.EventInvite, envelope.EventStanding:
			return !own && isParticipant
		case envelope.EventUndeliverable:
			return slices.ContainsFunc(e.To, func(s string) bool { return strings.EqualFold(s, key) })
		}
	}
	return false
}
