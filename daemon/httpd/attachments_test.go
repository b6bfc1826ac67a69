package httpd_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// wantProblem wants an answer to be a refusal with a code.
func wantProblem(t *testing.T, what string, resp *http.Response, data []byte, want api.Code) {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil || p.Code != want || resp.StatusCode != p.Status {
		t.Errorf("%s: got %s %.200s, want %s", what, resp.Status, data, want)
	}
}

func (h *host) attach(agent, name, content string) envelope.Attachment {
	h.t.Helper()
	resp, data := h.ask("POST /v1/attachments?name="+name, agent, content)
	var a envelope.Attachment
	if err := json.Unmarshal(data, &a); err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("upload: got %s %s, %v", resp.Status, data, err)
	}
	return a
}

func TestAttachments(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	a := h.attach("Atlas", "a%20b.txt", "hello")
	want := envelope.Attachment{Name: "a b.txt", MediaType: "text/plain; charset=utf-8", Size: 5, SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
	if a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	posted := h.Post("Atlas", &draft{To: []string{"Nova"}, Attachments: []envelope.Attachment{a}})
	resp, data := h.ask("GET /v1/attachments/"+a.SHA256+"?message="+posted.Message.Ref, "Nova", "")
	if string(data) != "hello" || resp.StatusCode != http.StatusOK {
		t.Errorf("got %s %q", resp.Status, data)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="a b.txt"; filename*=UTF-8''a%20b.txt`, "X-Content-Type-Options": "nosniff", "Content-Length": "5",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Error("a browser would show it")
	}

	resp, data = h.ask("POST /v1/attachments?name=a%2Fb", "Atlas", "hello")
	wantProblem(t, "name with a slash", resp, data, api.BadRequest)
	resp, data = h.ask("POST /v1/attachments", "Atlas", "hello")
	wantProblem(t, "no name", resp, data, api.BadRequest)
	resp, data = h.ask("POST /v1/attachments?name=a", "", "hello")
	wantProblem(t, "nobody", resp, data, api.IdentityRequired)
	resp, data = h.ask("GET /v1/attachments/"+strings.Repeat("0", 64), "Nova", "")
	wantProblem(t, "no such sum", resp, data, api.AttachmentNotFound)
	resp, data = h.ask("GET /v1/attachments/..%2Fkey", "Nova", "")
	wantProblem(t, "no sum", resp, data, api.AttachmentNotFound)
	resp, data = h.ask("GET /v1/attachments/"+a.SHA256+"?message="+posted.Conversation.Ref+".1", "Nova", "")
	wantProblem(t, "another message", resp, data, api.AttachmentNotFound)

	other := a
	other.Size = 6
	resp, data = h.ask("POST /v1/messages", "Atlas", `{"to":"Nova","attachments":[`+daemontest.JSON(other)+`]}`)
	wantProblem(t, "another size", resp, data, api.BadRequest)
	list := strings.TrimSuffix(strings.Repeat(daemontest.JSON(a)+",", envelope.MaxAttachments), ",")
	if resp, data = h.ask("POST /v1/messages", "Atlas", `{"to":"Nova","attachments":[`+list+`]}`); resp.StatusCode != http.StatusOK {
		t.Errorf("most: got %s %.200s", resp.Status, data)
	}
	resp, data = h.ask("POST /v1/messages", "Atlas", `{"to":"Nova","attachments":[`+list+","+daemontest.JSON(a)+`]}`)
	wantProblem(t, "too many", resp, data, api.BadRequest)

	if err := os.WriteFile(filepath.Join(h.Home().BlobsDir(), a.SHA256), []byte("hellO"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, data = h.ask("GET /v1/attachments/"+a.SHA256, "Nova", "")
	wantProblem(t, "damaged", resp, data, api.Damaged)
}

// TestAttachmentLimit holds where the size is said and where it is not.
func TestAttachmentLimit(t *testing.T) {
	h := &host{Host: daemontest.NewWith(t, "http.listen = 'off'\nlimits.attachment = 5", "Atlas"), t: t}
	h.http = &http.Client{Transport: &http.Transport{DialContext: h.dial}}
	t.Cleanup(h.http.CloseIdleConnections)
	h.attach("Atlas", "a", "hello")
	resp, data := h.ask("POST /v1/attachments?name=a", "Atlas", "hello!")
	wantProblem(t, "with a length", resp, data, api.TooLarge)

	conn, err := h.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/attachments?name=a HTTP/1.1\r\nHost: duo\r\nDuo-Agent: Atlas\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n")
	chunked, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || chunked.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("in chunks: got %v, %v", chunked, err)
	}
	entries, err := os.ReadDir(h.Home().BlobsDir())
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v; want the one blob that was taken", entries, err)
	}
}

// TestBrokenUpload leaves nothing.
func TestBrokenUpload(t *testing.T) {
	h := newHost(t, "Atlas")
	conn, err := h.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /v1/attachments?name=a HTTP/1.1\r\nHost: duo\r\nDuo-Agent: Atlas\r\nContent-Length: 10\r\n\r\nhello")
	list := func() int {
		entries, _ := os.ReadDir(h.Home().BlobsDir())
		return len(entries)
	}
	daemontest.Eventually(t, func() (bool, string) { return list() == 1, "nothing is written" })
	_ = conn.Close()
	daemontest.Eventually(t, func() (bool, string) { return list() == 0, "something is left" })
}

// TestWhoMayGet: over TCP an agent gets the files of what it may read, and of nothing
// else; to know a sum does not help.
func TestWhoMayGet(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	a := o.Upload("Atlas", "secret.txt", "secret")
	posted := o.Post("Atlas", &draft{To: []string{"Nova"}, Content: "hi", Attachments: []envelope.Attachment{a}})
	get := "GET /v1/attachments/" + a.SHA256
	in := get + "?message=" + posted.Message.Ref
	observer := o.token("").Text
	for _, test := range []struct {
		what, token, route string
	}{
		{"the sender", o.own("Atlas"), in}, {"the recipient", o.own("Nova"), in}, {"an observer", observer, in}, {"an observer, anywhere", observer, get},
	} {
		if resp, data := o.with(test.token, test.route, ""); resp.StatusCode != http.StatusOK || string(data) != "secret" {
			t.Errorf("%s: got %s %.200q", test.what, resp.Status, data)
		}
	}
	resp, data := o.with("", in, "")
	wantProblem(t, "nobody", resp, data, api.Unauthorized)
	resp, data = o.with(o.own("Sage"), in, "")
	wantProblem(t, "who is not in it", resp, data, api.NotParticipant)
	resp, data = o.with(o.own("Nova"), get, "")
	wantProblem(t, "without a message", resp, data, api.BadRequest)
	resp, data = o.with(observer, "POST /v1/attachments?name=a", "x")
	wantProblem(t, "an observer's upload", resp, data, api.ReadOnly)

	// Sage knows the sum, says so in a conversation of its own, and has nothing of it.
	mention := `{"to":"Nova","content":"` + a.SHA256 + `","attachments":[` + daemontest.JSON(a) + `]}`
	resp, data = o.with(o.own("Sage"), "POST /v1/messages", mention)
	wantProblem(t, "a mention of what was not uploaded", resp, data, api.AttachmentNotFound)
	resp, data = o.with(o.own("Sage"), "POST /v1/requests", mention)
	wantProblem(t, "in a call", resp, data, api.AttachmentNotFound)
	said := o.Post("Sage", &draft{To: []string{"Nova"}, Content: a.SHA256})
	resp, data = o.with(o.own("Sage"), get+"?message="+said.Message.Ref, "")
	wantProblem(t, "a message that only speaks of it", resp, data, api.AttachmentNotFound)
	if resp, data = o.with(o.own("Sage"), "POST /v1/attachments?name=mine", "secret"); resp.StatusCode != http.StatusOK {
		t.Errorf("upload: got %s %s", resp.Status, data)
	}
	if resp, data = o.with(o.own("Sage"), "POST /v1/messages", mention); resp.StatusCode != http.StatusOK {
		t.Errorf("a mention of what was uploaded: got %s %s", resp.Status, data)
	}
}

// TestFilesOfACall are for those who are called, before it is accepted.
func TestFilesOfACall(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	a := o.Upload("Atlas", "a.txt", "secret")
	called, err := o.As("Atlas").Call(t.Context(), &draft{Type: envelope.Call, To: []string{"Nova"}, Attachments: []envelope.Attachment{a}})
	if err != nil {
		t.Fatal(err)
	}
	route := "GET /v1/attachments/" + a.SHA256 + "?message=" + called.Request.Ref
	for _, agent := range []string{"Atlas", "Nova"} {
		if resp, data := o.with(o.own(agent), route, ""); string(data) != "secret" {
			t.Errorf("%s: got %s %.200q", agent, resp.Status, data)
		}
	}
	if resp, data := o.with(o.own("Sage"), route, ""); resp.StatusCode < 400 {
		t.Errorf("Sage: got %s %.200q", resp.Status, data)
	}
}

// TestFileOnItsWay: a file that another host has still to send is asked for later.
func TestFileOnItsWay(t *testing.T) {
	h := newHost(t, "Atlas")
	own := h.Home().Address("Atlas")
	bob := envelope.Address{Name: "Bob", Host: "lon"}
	first := &envelope.Envelope{
		Type: envelope.System, Event: envelope.EventCreate, ID: envelope.NewID(), From: own, Origin: h.Home().Host.ID, Participants: []envelope.Address{own, bob},
	}
	first.Conversation = envelope.ConversationID(h.Home().Host.ID, first.ID)
	file := envelope.Attachment{Name: "a.txt", MediaType: "text/plain", Size: 120 << 10, SHA256: strings.Repeat("a", 64)}
	message := &envelope.Envelope{
		Type: envelope.Message, ID: envelope.NewID(), From: bob, Conversation: first.Conversation, Content: "see", Attachments: []envelope.Attachment{file},
	}
	if err := convlog.Create(h.Home().LogPath(first.Conversation), []*envelope.Envelope{first, message}, time.Now()); err != nil {
		t.Fatal(err)
	}
	route := "GET /v1/attachments/" + file.SHA256 + "?message=" + first.Conversation + ".2"
	daemontest.Eventually(t, func() (bool, string) {
		resp, data := h.ask(route, "Atlas", "")
		return resp.StatusCode != http.StatusNotFound, string(data)
	})
	resp, data := h.ask(route, "Atlas", "")
	wantProblem(t, "on its way", resp, data, api.OnItsWay)
	if !strings.Contains(string(data), `\"a.txt\" waits for a link to lon: 0 bytes of 120 KiB`) || resp.Header.Get("Retry-After") != "30" {
		t.Errorf("got %s, again after %q", data, resp.Header.Get("Retry-After"))
	}
}

// TestDownload: a browser saves a file under a name that misleads nobody, and shows it
// never, whatever its sender has called it.
func TestDownload(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	a := h.Upload("Atlas", "a \u202e\"fdp\"; x=.exe", "<script>alert(1)</script>")
	ref := h.Post("Atlas", &draft{To: []string{"Nova"}, Attachments: []envelope.Attachment{a}}).Message.Ref
	at := "GET /v1/attachments/" + a.SHA256 + "?message=" + ref
	for _, test := range []struct{ query, want string }{
		{"", `attachment; filename="a __fdp_; x=.exe"; filename*=UTF-8''a%20_%22fdp%22%3B%20x%3D.exe`},
		{"&name=r%C3%A9sum%C3%A9.pdf", `attachment; filename="r_sum_.pdf"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf`},
		{"&name=..%2F.x%0D%0ASet-Cookie:1", `attachment; filename="_.._.x__Set-Cookie:1"; filename*=UTF-8''_.._.x__Set-Cookie%3A1`},
	} {
		resp, body := h.ask(at+test.query, "", "")
		if got := resp.Header.Get("Content-Disposition"); got != test.want || string(body) != "<script>alert(1)</script>" {
			t.Errorf("%q: got %s of %q, want %s", test.query, got, body, test.want)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%q: %s: got %q, want %q", test.query, name, got, want)
			}
		}
	}
	part := h.request("duo", at, "")
	part.Header.Set("Range", "bytes=1-6")
	if resp, body := h.do(part); resp.StatusCode != http.StatusPartialContent || string(body) != "script" {
		t.Errorf("a range: got %s %q", resp.Status, body)
	}
	resp, body := h.ask(at+"&name="+strings.Repeat("x", 256), "", "")
	wantProblem(t, "a long name", resp, body, api.BadRequest)
}
