package text

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/card"
)

// maxNote bounds what an agent says of itself in a line.
const maxNote = 80

// Agents lists agents. Those that were found are those that somebody has searched for.
func (w *Writer) Agents(list api.Agents, found bool) {
	table := tabwriter.NewWriter(w.Out, 0, 0, 2, ' ', 0)
	for _, agent := range list.Agents {
		row := strings.Join([]string{
			w.Local(agent.Address), w.Status(agent), cmp.Or(listening(agent), "-"), frame.Line(cmp.Or(agent.Wake, "-")),
			frame.Cut(strings.Join(agent.Capabilities, ","), maxNote), about(agent),
		}, "\t")
		fmt.Fprintln(table, strings.TrimRight(row, "\t"))
	}
	_ = table.Flush() // whose errors are those of Out
	switch {
	case len(list.Agents) == 0 && found:
		w.Say("nobody like that")
		w.Next("duo who")
	case len(list.Agents) == 0:
		w.Say("no agents")
		w.Next("duo register NAME")
	case list.More > 0:
		w.Say("%s and %d more", Count(len(list.Agents), "agent"), list.More)
		w.Next(`duo find --capability WORD`)
	default:
		w.Say("%s", Count(len(list.Agents), "agent"))
		w.Next("%s", w.reach(list.Agents))
	}
}

// Agent describes an agent, with what is to be told of its sessions.
func (w *Writer) Agent(agent api.Agent, sessions ...string) {
	w.Say("%s", w.Bold(w.Local(agent.Address)))
	w.Field("capabilities", strings.Join(agent.Capabilities, ","))
	w.Field("description", agent.Description)
	w.Field("platform", agent.Platform)
	if agent.Unregistered {
		w.Field("state", "unregistered")
	} else {
		w.Say("state: %s", w.Status(agent))
		w.Field("mail", listening(agent))
		w.Field("wake", agent.Wake)
	}
	w.Field("standing", w.standing(agent))
	if agent.Link != "" {
		w.Say("host: %s, link %s", frame.Line(agent.Host), frame.Line(agent.Link))
	}
	w.Field("accepts", agent.Accepts)
	w.Say("open: %s", Count(agent.Open, "conversation"))
	w.sessions(sessions)
	w.Field("id", agent.ID)
	w.Field("folder", agent.Folder)
	w.Next("%s", w.reach([]api.Agent{agent}))
}

// Whoami tells the reader which agent it is, what says so, and what is to be told of the
// agent's sessions.
func (w *Writer) Whoami(agent api.Agent, source string, sessions ...string) {
	w.Say("%s (%s), %d unread, folder %s", w.Bold(agent.Address), frame.Line(source), agent.Unread, agent.Folder)
	w.sessions(sessions)
	w.Next("duo inbox")
}

func (w *Writer) sessions(list []string) {
	for _, s := range list {
		w.Field("session", s)
	}
}

// Candidates lists who fits a match, the best first, and at most limit of them.
func (w *Writer) Candidates(list []api.Agent, limit int) {
	for _, agent := range list[:min(len(list), limit)] {
		parts := []string{
			w.Bold(w.Local(agent.Address)), w.Status(agent),
			Count(agent.Open, "open conversation"), Count(agent.Unread, "message") + " unread",
		}
		if len(agent.Capabilities) > 0 {
			parts = append(parts, frame.Cut(strings.Join(agent.Capabilities, ","), maxNote))
		}
		w.Say("%s", strings.Join(parts, ", "))
	}
	w.Say("%s would be asked, in this order; nobody was called", Count(len(list), "agent"))
	w.Next(`duo call %s --topic "..."`, w.Local(list[0].Address))
}

// Presence tells whether the reader is there for the others.
func (w *Writer) Presence(p api.Presence) {
	line := w.Local(p.Agent) + " is " + frame.Line(p.Status)
	if p.Note != "" {
		line += " " + frame.Quote(p.Note, maxNote)
	}
	if p.Since > 0 {
		line += ", since " + w.clock(p.Since)
	}
	w.Say("%s", line)
	if p.Status == card.Busy || p.Status == card.Offline {
		w.Next("duo presence available")
		return
	}
	w.Next("duo wait")
}

// Contacts lists whom the reader blocks and whom it always lets in.
func (w *Writer) Contacts(c api.Contacts) {
	if len(c.Block)+len(c.Allow) == 0 {
		w.Say("you block nobody, and allow nobody beyond what your card says")
	}
	if len(c.Block) > 0 {
		w.Say("blocked: %s", w.People(c.Block))
	}
	if len(c.Allow) > 0 {
		w.Say("allowed: %s", w.People(c.Allow))
	}
	w.Next("duo who")
}

// Status is whether an agent is there, with what it says of it.
func (w *Writer) Status(agent api.Agent) string {
	text := frame.Line(agent.Status)
	if agent.Link == api.LinkDown {
		text = "out of reach"
	}
	if agent.Note != "" {
		text += " " + frame.Quote(agent.Note, maxNote)
	}
	switch {
	case agent.Status == card.Offline && agent.LastSeen > 0:
		text += ", seen " + w.clock(agent.LastSeen)
	case agent.Since > 0 && (agent.Status == card.Busy || agent.Status == "in-call"):
		text += ", since " + w.clock(agent.Since)
	}
	if limited(agent) {
		text += ", " + frame.Line(agent.Standing)
	}
	return text
}

// limited reports whether an agent may not do all that agents may.
func limited(agent api.Agent) bool { return agent.Terms != nil }

// standing is what an agent may do, with who says so; it is empty where that is all.
func (w *Writer) standing(agent api.Agent) string {
	if !limited(agent) {
		return ""
	}
	text := fmt.Sprintf("%s by %s, %s", frame.Line(agent.Standing), w.Local(agent.Terms.By), w.clock(agent.Terms.At))
	if agent.Terms.Until > 0 {
		text += ", until " + w.clock(agent.Terms.Until)
	}
	return text + because(agent.Terms.Reason)
}

// Standings lists the agents that may not do all.
func (w *Writer) Standings(list api.Agents) {
	for _, agent := range list.Agents {
		w.Say("%s: %s", w.Bold(w.Local(agent.Address)), w.standing(agent))
	}
	if len(list.Agents) == 0 {
		w.Say("every agent may do all")
		w.Next("duo who")
		return
	}
	w.Next("duo unmute %s", w.Local(list.Agents[0].Address))
}

// Stands tells which standing an agent has been given.
func (w *Writer) Stands(agent api.Agent) {
	who := w.Local(agent.Address)
	if !limited(agent) {
		w.Say("%s may do all that agents may", w.Bold(who))
		w.Next("duo standing")
		return
	}
	w.Say("%s is %s", w.Bold(who), w.standing(agent))
	w.Next("duo standing %s none", who)
}

// about is what an agent says of itself, in quotes.
func about(agent api.Agent) string {
	if agent.Description == "" {
		return ""
	}
	return frame.Quote(agent.Description, maxNote)
}

// listening tells whether what an agent was not shown will be seen soon; it is empty
// where there is nothing to say.
func listening(agent api.Agent) string {
	switch {
	case agent.Listening && agent.Unread > 0:
		return fmt.Sprintf("%d unread, listening", agent.Unread)
	case agent.Listening:
		return "listening"
	case agent.Unread > 0:
		return fmt.Sprintf("%d unread, nobody listening", agent.Unread)
	}
	return ""
}

// reach is the command to reach one of the agents that is somebody else: the first that
// can talk now, else the first.
func (w *Writer) reach(agents []api.Agent) string {
	next := "duo wait"
	for _, agent := range slices.Backward(agents) {
		if !w.isSelf(agent) {
			next = fmt.Sprintf(`duo message %s "..."`, w.Local(agent.Address))
		}
	}
	for _, agent := range agents {
		if agent.Status == card.Available && !w.isSelf(agent) {
			return fmt.Sprintf(`duo call %s --topic "..."`, w.Local(agent.Address))
		}
	}
	return next
}

func (w *Writer) isSelf(agent api.Agent) bool {
	return w.Me != "" && strings.EqualFold(w.Local(agent.Address), w.Me)
}
