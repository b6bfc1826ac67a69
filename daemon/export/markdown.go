package export

import (
	"bufio"
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/frame"
)

// markdownLayout writes CommonMark.
type markdownLayout struct{}

func (markdownLayout) ext() string { return ".md" }

func (markdownLayout) begin(w *bufio.Writer, t *talk) {
	fmt.Fprintf(w, "# %s\n\n", inline(titleOf(t.state)))
	for _, fact := range facts(t) {
		fmt.Fprintf(w, "- %s: %s\n", fact.name, inline(fact.text))
	}
}

func (markdownLayout) entry(w *bufio.Writer, t *talk, e entry, files []carried) error {
	when := clock(e.state.LastTime)
	if !isMessage(e) && len(files) == 0 && !strings.Contains(said(e), "\n") {
		fmt.Fprintf(w, "\n%d · %s · *%s*\n", e.Seq, when, inline(said(e)))
		return nil
	}
	fmt.Fprintf(w, "\n## %d · %s · %s\n\n", e.Seq, inline(e.From.String()), when)
	if notes := notesOf(e); notes != "" {
		fmt.Fprintf(w, "*%s*\n\n", inline(notes))
	}
	quote(w, said(e))
	if len(e.Data) > 0 {
		w.WriteString("\nData:\n\n")
		fence(w, string(frame.JSON(e.Data)), "json")
	}
	for i, f := range files {
		if i == 0 {
			w.WriteString("\n")
		}
		name := inline(f.Name)
		if f.path != "" {
			name = "[" + name + "](" + f.path + ")"
		}
		fmt.Fprintf(w, "- %s, %s, %s, SHA-256 %s%s\n", name, ofSize(f.Size), inline(f.MediaType), f.SHA256, inline(absent(f)))
	}
	return nil
}

func (markdownLayout) finish(*bufio.Writer) {}

func (markdownLayout) index(w *bufio.Writer, list []listed) {
	w.WriteString("# Conversations\n\n")
	for _, l := range list {
		fmt.Fprintf(w, "- [%s](%s): %s\n", inline(titleOf(l.state)), l.name, inline(summary(l.talk)))
	}
}

// fact is something about a conversation.
type fact struct{ name, text string }

func facts(t *talk) []fact {
	list := []fact{{"Conversation", t.ref + ", " + t.id}, {"People", addresses(t.state.Present())}}
	var left []string
	for _, m := range t.state.Members {
		if !m.Present() {
			left = append(left, m.Address.String())
		}
	}
	if len(left) > 0 {
		list = append(list, fact{"Left", strings.Join(left, ", ")})
	}
	list = append(list, fact{"Time", clock(t.state.CreatedAt) + " to " + clock(t.state.LastTime)})
	list = append(list, fact{"Messages", fmt.Sprint(t.state.Turns)})
	if t.state.Closed {
		list = append(list, fact{"Closed", cmp.Or(t.state.Reason, "yes")})
	}
	if t.damage != nil {
		list = append(list, fact{"Damaged", t.damage.Error()})
	}
	return list
}

func summary(t *talk) string {
	return fmt.Sprintf("%s, %d messages, last %s", addresses(t.state.Present()), t.state.Turns, clock(t.state.LastTime))
}

// clock is a time in UTC.
func clock(ms int64) string {
	if ms == 0 {
		return "–"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z")
}

func isMessage(e entry) bool { return e.known() && kindOf(e.Envelope) == "message" }

// notesOf says what stands about a message beside its text.
func notesOf(e entry) string {
	var notes []string
	switch {
	case e.ReplyTo.Seq > 0:
		notes = append(notes, fmt.Sprintf("answers %d", e.ReplyTo.Seq))
	case e.ReplyTo.ID != "":
		notes = append(notes, "answers "+e.ReplyTo.ID)
	}
	if len(e.To) > 0 {
		notes = append(notes, "to "+strings.Join(e.To, ", "))
	}
	if len(e.crossed) > 0 {
		notes = append(notes, "crossed with "+numbers(e.crossed))
	}
	if e.Auto {
		notes = append(notes, "automatic")
	}
	return strings.Join(notes, "; ")
}

func absent(f carried) string {
	if f.why == "" {
		return ""
	}
	return ": " + f.why
}

// inline writes a text so that no part of it means anything in Markdown.
func inline(text string) string {
	var b strings.Builder
	for _, r := range frame.Line(text) {
		if strings.ContainsRune("\\`*_[]<>#|~&!$", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// reaches is what can mean something beyond a quotation that it stands in: HTML, images,
// and definitions of links and footnotes.
var reaches = regexp.MustCompile(`<[A-Za-z/!?]|!\[|\]:`)

// quote writes what somebody has written as a quotation.
func quote(w *bufio.Writer, text string) {
	if reaches.MatchString(text) {
		fence(w, text, "text")
		return
	}
	quoteLines(w, frame.Text(text))
}

func quoteLines(w *bufio.Writer, text string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		w.WriteString(strings.TrimRight("> "+line, " ") + "\n")
	}
}

var runOfBackticks = regexp.MustCompile("`+")

// fence writes a text as a block of code in a quotation.
func fence(w *bufio.Writer, text, language string) {
	longest := 2
	for _, run := range runOfBackticks.FindAllString(text, -1) {
		longest = max(longest, len(run))
	}
	ticks := strings.Repeat("`", longest+1)
	quoteLines(w, ticks+language+"\n"+frame.Text(strings.TrimSuffix(text, "\n"))+"\n"+ticks)
}
