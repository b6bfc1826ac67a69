package web_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	downloads "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// line waits for a line of the transcript that is shown.
func (p *tab) line(seq int64) element {
	p.t.Helper()
	return p.css(fmt.Sprintf("article[data-seq=\"%d\"]", seq))
}

// talk is a conversation that a test has begun.
type talk struct {
	t  testing.TB
	h  *daemontest.Host
	id string
	c  api.Conversation
}

func begin(t testing.TB, h *daemontest.Host, draft envelope.Envelope, from string, with ...string) *talk {
	t.Helper()
	draft.Type, draft.To = envelope.Create, with
	c := h.Post(from, &draft).Conversation
	return &talk{t, h, c.ID, c}
}

// say posts a message, and returns its seq.
func (k *talk) say(from, text string) int64 {
	k.t.Helper()
	return k.post(from, envelope.Envelope{Content: text})
}

// post posts a draft to the conversation, and returns its seq.
func (k *talk) post(from string, draft envelope.Envelope) int64 {
	k.t.Helper()
	draft.Conversation = k.id
	return k.h.Post(from, &draft).Message.Envelope.Seq
}

func TestTranscriptIsLive(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Vega")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40", Mode: "live", TurnLimit: 6}, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)
	p.line(1).shows("Atlas began a live conversation with Nova")

	first := k.say("Atlas", "Seconds or **milliseconds**?")
	p.line(first).shows("Seconds or milliseconds?")
	if bold := eval[string](p, `document.querySelector("article strong").innerText`); bold != "milliseconds" {
		t.Errorf("got %q in bold, want milliseconds", bold)
	}
	p.line(first).shows("delivered to Nova")
	listen(t, h, "Nova", api.Seen)
	p.line(first).shows("seen by Nova")

	if err := h.As("Nova").Typing(context.Background(), k.id, false); err != nil {
		t.Fatal(err)
	}
	p.find("main", "").shows("Nova is typing")
	k.say("Atlas", "Or both?")
	crossed := k.post("Nova", envelope.Envelope{Content: "Milliseconds.", After: envelope.Int(first), ReplyTo: envelope.Ref{Seq: first}})
	p.line(crossed).shows("had not seen #3")
	p.line(crossed).shows("Atlas Seconds or **milliseconds**?") // the message that it answers
	p.line(crossed).find("link", fmt.Sprintf("Answers message %d", first)).click()
	p.wait(fmt.Sprintf("location.hash === \"#%d\" && document.activeElement.dataset.seq === \"%[1]d\"", first))

	p.line(k.post("Atlas", envelope.Envelope{Type: envelope.Invite, To: []string{"Vega"}})).shows("Atlas invited Vega")
	p.find("list", "3 participants").shows("Vega")
	p.line(k.post("Vega", envelope.Envelope{Type: envelope.Leave, Reason: "lunch"})).shows("Vega left: lunch")
	p.line(k.post("Nova", envelope.Envelope{Content: "I am out.", Auto: true})).shows("automatic")
	daemontest.AppendTo(t, h.Home().LogPath(k.id), `{"from":"Nova","content":"echo works, too"}`+"\n")
	p.find("main", "").shows("echo works, too")
	p.find("main", "").shows("by the shell")
	last := k.say("Nova", "That is all.")
	p.line(last).shows("That is all.")
	p.find("main", "").shows("All 6 turns are used")
	k.post("Atlas", envelope.Envelope{Type: envelope.Close, Reason: "fixed"})
	p.find("main", "").shows("Closed: fixed")

	for seq := int64(1); seq <= int64(len(h.Log(k.id))); seq++ {
		p.line(seq) // each once
	}
	p.accessible("a transcript that was live")
}

// TestHiddenWindow wants what comes into a window that nobody sees to stay new.
func TestHiddenWindow(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)
	hide := func(hidden bool) {
		eval[bool](p, fmt.Sprintf(`Object.defineProperty(document, "hidden", {configurable: true, value: %v}) && document.dispatchEvent(new Event("visibilitychange"))`, hidden))
	}
	looked := fmt.Sprintf(`new Map(JSON.parse(localStorage.getItem("duo.seen"))).get(%q)`, k.id)
	p.wait(looked + " === 1")
	hide(true)
	p.line(k.say("Atlas", "Is anybody there?")).shows("Is anybody there?")
	if got := eval[int](p, looked); got != 1 {
		t.Errorf("got line %d as looked at, want 1: the window was hidden", got)
	}
	hide(false)
	p.wait(looked + " === 2")
}

// TestDeliveryIsTold follows one message with several recipients.
func TestDeliveryIsTold(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Vega", "Orion")
	k := begin(t, h, envelope.Envelope{Topic: "Who has it?"}, "Atlas", "Nova", "Vega", "Orion")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)
	listen(t, h, "Nova", api.Seen)
	listen(t, h, "Vega", api.Delivered)
	seq := k.say("Atlas", "One for all")
	p.line(seq).shows("seen by Nova")
	p.line(seq).shows("delivered to")
	p.line(seq).hides("stored for")
	if err := h.As("Vega").Shown(context.Background(), []api.Place{{Conversation: k.id, Seq: 1}, {Conversation: k.id, Seq: seq}}); err != nil {
		t.Fatal(err)
	}
	p.line(seq).shows("seen by Nova, Vega")
	p.line(seq).shows("delivered to Orion")
	p.open("/c/" + k.c.Ref) // and so it stands for who comes later
	p.line(seq).shows("seen by Nova, Vega")
	p.line(seq).shows("delivered to Orion")
}

func TestAttachmentsAreDownloads(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Files"}, "Atlas", "Nova")
	const page = `<!doctype html><script>alert(document.domain)</script>`
	attached := h.Upload("Atlas", "trace.html", page)
	hostile := h.Upload("Atlas", "invoice\u202Egnp.exe", "MZ")
	seq := k.post("Atlas", envelope.Envelope{Content: "Two files", Attachments: []envelope.Attachment{attached, hostile}})
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)
	p.line(seq).shows("trace.html")
	p.line(seq).shows(fmt.Sprintf("%d B", len(page)))
	p.line(seq).shows(`invoice\u{202E}gnp.exe`) // no name turns round

	dir := t.TempDir()
	events := true
	if _, err := chromedp.CallBrowser(p.ctx, downloads.SetDownloadBehavior, downloads.SetDownloadBehaviorParams{
		Behavior: downloads.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir, EventsEnabled: &events, BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	}); err != nil {
		t.Fatal(err)
	}
	p.line(seq).find("button", "trace.html").click()
	p.until("trace.html is saved", func() bool {
		got, err := os.ReadFile(filepath.Join(dir, "trace.html"))
		return err == nil && string(got) == page
	})

	headers := eval[map[string]string](p, `fetch("/v1/attachments/`+attached.SHA256+`?name=trace.html&message=`+fmt.Sprintf("%s.%d", k.c.Ref, seq)+`",
		{headers: {Authorization: "Bearer " + localStorage.getItem("duo.token")}}).then(r => Object.fromEntries(r.headers))`)
	for name, want := range map[string]string{"content-disposition": "attachment", "x-content-type-options": "nosniff", "content-security-policy": "sandbox"} {
		if !strings.Contains(headers[name], want) {
			t.Errorf("got header %s: %q, want %q in it", name, headers[name], want)
		}
	}
}

// TestDeepLinks opens each kind of address as somebody does who was sent it.
func TestDeepLinks(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	listen(t, h, "Nova", api.Seen)
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	for i := range 150 {
		k.say("Atlas", fmt.Sprintf("message %d of many", i))
	}
	called, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: "Now?"})
	if err != nil {
		t.Fatal(err)
	}
	p := newBrowser(t).watch(t, h, desk, "/")
	for _, link := range []struct{ path, title, shows string }{
		{"/c/" + k.c.Ref, "Line 40", "message 149 of many"},
		{"/c/" + k.id, "Line 40", "message 149 of many"},
		{"/c/" + strings.ToUpper(k.c.Ref), "Line 40", "message 149 of many"},
		{"/c/" + k.c.Ref + "#42", "Line 40", "message 40 of many"},
		{"/c/" + k.c.Ref + "#99999", "Line 40", "message 149 of many"},
		{"/c/" + k.c.Ref + "/sequence", "Sequence: Line 40", "Nova"},
		{"/a/Nova", "Nova", "Conversations"},
		{"/a/nova@nyc", "Nova", "Conversations"},
		{"/r/" + called.Request.Ref, "Call: Now?", "Atlas"},
		{"/talk", "Who talks to whom", "Period"},
		{"/hosts", "Hosts", "nyc"},
		{"/search", "Search", "What to ask for"},
	} {
		p.open(link.path)
		p.wait("document.title === " + quoted(link.title+" · duo"))
		p.find("main", "").shows(link.shows)
		if n := p.count("heading", ""); n == 0 {
			t.Errorf("%s: got no heading, want one", link.path)
		}
	}
	p.open("/c/" + k.c.Ref + "#42")
	p.wait(`document.activeElement.dataset.seq === "42"`)
	inSight := eval[bool](p, `(b => b.top >= 0 && b.bottom <= innerHeight)(document.activeElement.getBoundingClientRect())`)
	if !inSight {
		t.Error("message 42 is not in sight, want it there")
	}

	p.allow("status of 404")
	for path, words := range map[string]string{"/c/c0000": "No such conversation", "/a/Nobody": "Nobody", "/r/r0000": "r0000"} {
		p.open(path)
		p.find("main", "").shows(words)
		p.find("alert", "")
	}
}

// TestReadingByKeys walks through a transcript.
func TestReadingByKeys(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	for i := range 100 {
		k.say("Atlas", fmt.Sprintf("message %d of many", i))
	}
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref+"#50")
	current := func(seq string) {
		t.Helper()
		p.wait(`document.activeElement.dataset.seq === ` + quoted(seq))
	}
	current("50")
	p.press("j")
	current("51")
	p.press("kk")
	current("49")
	p.allow("clipboard") // it may not copy here, and says so
	p.press(kb.Enter)
	p.wait(`location.hash === "#49"`)
	seq := k.say("Atlas", "one more")
	p.find("button", "1 new")
	p.press("f")
	p.line(seq).shows("one more")
	p.wait(`(b => b.scrollHeight - b.scrollTop - b.clientHeight < 30)(document.querySelector("[role=log]"))`)
	p.press("k")
	p.wait(`Number(document.activeElement.dataset.seq) >= ` + fmt.Sprint(seq-1))
}

// TestMailToThePerson lets agents write to the operator and call, who reads and answers on
// the page.
func TestMailToThePerson(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	b := newBrowser(t)
	p := b.steer(t, h, "/a/Atlas")
	p.find("textbox", "Write to Atlas").write("Which unit?")
	p.find("button", "Send").click()
	p.wait(`location.pathname.startsWith("/c/")`)
	p.open("/")
	p.live()
	p.find("link", "0 to you")

	reply := h.Post("Atlas", message(api.Human, "Milliseconds."))
	long := strings.Repeat("One more line.\n\n", 100)
	for range 3 {
		h.Post("Atlas", message(api.Human, long))
	}
	p.find("link", "4 to you").click()
	mail := p.find("list", "To you")
	mail.shows("Milliseconds.")
	p.accessible("mail to the person")
	p.look(phone)
	if right := callOn[float64](p.find("button", "Keys and help"), `function() { return this.getBoundingClientRect().right }`); right > float64(phone.width) {
		t.Errorf("the head of the page ends at %.0f pixels, want %d at most", right, phone.width)
	}
	p.look(desk)
	b.watch(t, h, desk, "/c/"+reply.Conversation.Ref).line(reply.Message.Envelope.Seq).shows("delivered to human") // whoever else looks
	mail.find("link", "Milliseconds.").click()
	p.line(reply.Message.Envelope.Seq).shows("seen by human")
	p.until("the daemon knows", func() bool {
		inbox, err := h.As(api.Human).Inbox(context.Background(), 10)
		return err == nil && len(inbox.Items) > 0 && len(inbox.Items) < 4 // not what is out of sight
	})
	p.press("f")
	p.find("link", "2 to you") // what stands between was passed by

	called, err := h.As("Nova").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{api.Human}, Topic: "May I deploy?"})
	if err != nil {
		t.Fatal(err)
	}
	p.find("link", "3 to you")
	p.now().find("link", "May I deploy?").click()
	p.find("link", "2 to you") // to open a call is to be shown it
	p.find("group", "Your answer").find("button", "Accept").click()
	p.wait(`location.pathname.startsWith("/c/")`)
	p.find("heading", "May I deploy?")
	if r, err := h.As("Nova").Find(context.Background(), called.Request.Ref); err != nil || r.Request.State != "accepted" {
		t.Errorf("got %s, %v, want a call that was accepted", daemontest.JSON(r), err)
	}
	p.find("link", "2 to you")
}

// TestOperatorSteers writes, closes and mutes as a person.
func TestOperatorSteers(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	k.say("Atlas", "Milliseconds?")
	p := b.steer(t, h, "/c/"+k.c.Ref)
	watcher := b.watch(t, h, desk, "/c/"+k.c.Ref)

	p.find("textbox", "Write as").write("Seconds, says the one who wrote it.")
	p.find("button", "Send").click()
	p.find("main", "").shows("Seconds, says the one who wrote it.")
	watcher.find("main", "").shows("Seconds, says the one who wrote it.")
	lines := h.Log(k.id)
	if last := lines[len(lines)-1]; last.From.String() != "human@nyc" || last.Content != "Seconds, says the one who wrote it." {
		t.Errorf("got last line %s, want what human@nyc wrote", last.Append(nil))
	}
	p.accessible("a transcript for the operator")

	p.open("/a/Nova")
	p.live()
	p.find("button", "Mute").click()
	dialog := p.find("dialog", "Mute Nova?")
	p.accessible("asking for a reason")
	dialog.find("textbox", "Why").write("too loud")
	dialog.find("button", "Mute").click()
	p.agent("Nova").shows("muted")
	watcher.agent("Nova").shows("muted")
	if _, err := h.As("Nova").Post(context.Background(), &envelope.Envelope{Type: envelope.Message, Conversation: k.id, Content: "I am not"}); err == nil {
		t.Error("Nova is muted and was let speak")
	}
	p.find("button", "Lift").click()
	p.find("dialog", "Let it speak again").find("button", "Lift").click()
	p.agent("Nova").hides("muted")
	k.say("Nova", "Thanks.")

	p.open("/c/" + k.c.Ref)
	p.live()
	p.find("button", "Close conversation").click()
	p.find("dialog", "Close the conversation?").find("textbox", "Why").write("all said")
	p.press(kb.Enter)
	p.find("main", "").shows("Closed: all said")
	watcher.find("main", "").shows("human closed the conversation as operator: all said")
	if n := p.count("button", "Send"); n != 0 {
		t.Error("one can still write to a conversation that is closed")
	}
}

// TestOperatorBlocks shuts an agent out, and lets it in again.
func TestOperatorBlocks(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	k.say("Nova", "The key is hunter2.")
	p := b.steer(t, h, "/a/Nova")
	watcher := b.watch(t, h, desk, "/c/"+k.c.Ref)

	p.find("button", "Block").click()
	dialog := p.find("dialog", "Block Nova?")
	dialog.shows("nobody can write to it")
	p.accessible("asking before a block")
	dialog.find("textbox", "Why").write("tells keys")
	dialog.find("button", "Block").click()
	p.agent("Nova").shows("blocked")
	watcher.agent("Nova").shows("blocked")
	p.find("main", "").shows("blocked by human")
	watcher.find("main", "").shows("human blocked Nova: tells keys")
	p.accessible("an agent that is blocked")
	wantStanding := func(want string) {
		t.Helper()
		lines := h.Log(k.id)
		if last := lines[len(lines)-1]; last.Event != envelope.EventStanding || last.Status != want || last.From.String() != "human@nyc" {
			t.Errorf("got last line %s, want that human@nyc gave the standing %s", last.Append(nil), want)
		}
	}
	wantStanding("blocked")
	for from, draft := range map[string]*envelope.Envelope{
		"Nova":  {Type: envelope.Message, Conversation: k.id, Content: "and the other one"},
		"Atlas": message("Nova", "Which key?"),
	} {
		var refusal *api.Error
		if _, err := h.As(from).Post(context.Background(), draft); !errors.As(err, &refusal) || refusal.Code != api.Blocked {
			t.Errorf("%s: got %v, want that Nova is blocked", from, err)
		}
	}

	p.find("button", "Lift").click()
	p.find("dialog", "Let it speak again").find("button", "Lift").click()
	p.agent("Nova").hides("blocked")
	watcher.find("main", "").shows("human lets Nova do all again")
	wantStanding("none")
	k.say("Nova", "Sorry.")
	watcher.find("main", "").shows("Sorry.")
}
