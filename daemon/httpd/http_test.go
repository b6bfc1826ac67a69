package httpd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/httpd"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestProblems: every error is a problem of RFC 9457 with duo's code.
func TestProblems(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	in := "/v1/conversations/" + id
	for _, test := range []struct {
		route, agent, body string
		status             int
		code               api.Code
	}{
		{"GET /v1/me", "", "", 401, api.IdentityRequired},
		{"GET /v1/me", "Nobody", "", 401, api.IdentityUnknown},
		{"GET /v1/me", "../../etc", "", 401, api.IdentityUnknown},
		{"GET /v1/stream", "Nobody", "", 401, api.IdentityUnknown},
		{"GET /v2/nothing", "", "", 404, api.RouteNotFound},
		{"PUT /v1/status", "", "", 404, api.RouteNotFound},
		{"POST /v1/agents", "", `{"name":"Rune"`, 422, api.BadRequest},
		{"POST /v1/agents", "", `{"name":7}`, 422, api.BadRequest},
		{"POST /v1/agents", "", `{"name":"no way"}`, 422, api.BadRequest},
		{"POST /v1/agents", "", "", 422, api.BadRequest},
		{"GET /v1/agents/Atlsa", "", "", 404, api.AgentNotFound},
		{"GET /v1/agents/Atlas@moon", "", "", 404, api.HostNotFound},
		{"DELETE /v1/agents/Nobody", "", "", 404, api.AgentNotFound},
		{"GET /v1/agents?limit=many", "", "", 422, api.BadRequest},
		{"GET /v1/me/inbox?limit=-1", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/me/events?wait=soon", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/me/events?wait=-1s", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/me/events?conversation=cffff", "Atlas", "", 404, api.ConversationNotFound},
		{"GET /v1/me/events?conversation=" + id + "&after=x", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/me/inbox?lmit=5", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/me?limit=5", "Atlas", "", 422, api.BadRequest},
		{"GET /v1/agents?limit=5&%zz", "", "", 422, api.BadRequest},
		{"GET " + in + "/messages?lst=1", "", "", 422, api.BadRequest},
		{"GET /v1/stream?after=1", "Atlas", "", 422, api.BadRequest},
		{"POST /v1/attachments?nmae=a", "Atlas", "x", 422, api.BadRequest},
		{"GET /v1/attachments/" + strings.Repeat("a", 64) + "?mesage=c1", "Atlas", "", 422, api.BadRequest},
		{"GET /metrics?name=x", "", "", 422, api.BadRequest},
		{"POST /v1/me/read", "Atlas", `{"refs":["cffff.1"]}`, 404, api.ConversationNotFound},
		{"POST /v1/me/read", "Atlas", `{"refs":["` + id + `.9"]}`, 404, api.MessageNotFound},
		{"POST /v1/me/read", "Atlas", `{"refs":["` + id + `.x"]}`, 422, api.BadReference},
		{"POST /v1/me/seen", "Atlas", `{"messages":[{"conversation":"nowhere","seq":1}]}`, 422, api.BadReference},
		{"PUT /v1/me/current", "Atlas", `{"conversation":"cffff"}`, 404, api.ConversationNotFound},
		{"GET /v1/conversations/nowhere", "", "", 422, api.BadReference},
		{"GET " + in + "/messages?last=few", "", "", 422, api.BadRequest},
		{"GET /v1/conversations/cffff/messages", "", "", 404, api.ConversationNotFound},
		{"GET " + in + "/receipts?until=read", "", "", 422, api.BadRequest},
		{"GET " + in + "/receipts?seq=9", "", "", 404, api.MessageNotFound},
		{"GET " + in + ".x/receipts", "", "", 422, api.BadReference},
		{"GET /v1/refs/Atlsa", "", "", 404, api.AgentNotFound},
		{"GET /v1/refs/cffff", "", "", 404, api.ConversationNotFound},
		{"GET /v1/refs/" + id + ".9", "", "", 404, api.MessageNotFound},
		{"GET /v1/refs/" + id + ".x", "", "", 422, api.BadReference},
		{"POST " + in + "/messages", "", `{"content":"hi"}`, 401, api.IdentityRequired},
		{"POST " + in + "/messages", "Atlas", `{"content":"hi"`, 422, api.BadRequest},
		{"POST " + in + "/messages", "Atlas", `["hi"]`, 422, api.BadRequest},
		{"POST " + in + "/messages", "Atlas", `{"content":"hi","content":"ho"}`, 422, api.BadRequest},
		{"POST " + in + "/messages", "Atlas", `{"content":"` + "\xff" + `"}`, 422, api.BadRequest},
		{"POST " + in + "/messages", "Atlas", `{"content":"` + strings.Repeat("x", 2<<20) + `"}`, 413, api.TooLarge},
		{"POST " + in + "/messages", "Atlas", `{"content":"` + strings.Repeat("x", envelope.MaxLine) + `"}`, 413, api.TooLarge},
		{"POST /v1/conversations", "Atlas", `{"topic":"a","to":["Nova"` + strings.Repeat(`,"Nova"`, 9_999) + `]}`, 422, api.BadRequest},
		{"POST /v1/conversations", "Atlas", `{"topic":"a","to":["Nova"` + strings.Repeat(`,"Nova"`, 999) + `]}`, 422, api.TooMany},
		{"POST /v1/me/read", "Atlas", `{"refs":["` + strings.Repeat("x", envelope.MaxLine) + `"]}`, 413, api.TooLarge},
	} {
		resp, body := h.ask(test.route, test.agent, test.body)
		var p api.Problem
		if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %s %.200s, %v, want a problem", test.route, resp.Status, body, err)
			continue
		}
		want := (&api.Error{Code: test.code, Message: p.Detail, Next: p.Next, Near: p.Near}).Problem()
		if resp.StatusCode != test.status || daemontest.JSON(p) != daemontest.JSON(want) || p.Detail == "" {
			t.Errorf("%s: got %d %s, want %d %s", test.route, resp.StatusCode, daemontest.JSON(p), test.status, daemontest.JSON(want))
		}
	}
	if lines := h.Log(id); len(lines) != 1 {
		t.Errorf("log: got %d lines, want 1", len(lines))
	}
	_, body := h.ask("GET /v1/agents/Atlsa", "", "")
	if !bytes.Contains(body, []byte(`"near":["Atlas"]`)) || !bytes.Contains(body, []byte(`"next":"duo who"`)) {
		t.Errorf("mistyped name: got %s, want the near one and a command", body)
	}
	for route, near := range map[string]string{"GET /v1/me/inbox?lmit=5": "limit", "GET " + in + "/messages?lst=1": "last"} {
		if _, body := h.ask(route, "Atlas", ""); !bytes.Contains(body, []byte(`"near":["`+near+`"]`)) {
			t.Errorf("%s: got %s, want %s as the near one", route, body, near)
		}
	}
}

// TestEveryRouteIsServed reads the routes from the source of package api.
func TestEveryRouteIsServed(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	file, err := parser.ParseFile(token.NewFileSet(), "../api/routes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			route, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			routes = append(routes, route)
		}
		return true
	})
	if len(routes) < 20 {
		t.Fatalf("routes: got %q, want all of them", routes)
	}
	for _, route := range routes {
		if route == api.RouteStop || route == api.RouteUnregister {
			continue
		}
		resp, body := h.ask(strings.NewReplacer("{ref}", id, "{name}", "Atlas").Replace(route), "Atlas", "{}")
		if bytes.Contains(body, []byte(api.RouteNotFound)) || resp.StatusCode >= 500 {
			t.Errorf("%s: got %s %s, want it served", route, resp.Status, body)
		}
	}
	if resp, body := h.ask("GET /healthz", "", ""); resp.StatusCode != http.StatusOK || string(body) != "ok\n" {
		t.Errorf("health: got %s %q", resp.Status, body)
	}
	if resp, body := h.ask("POST /v1/me/seen", "Atlas", `{"messages":[]}`); resp.StatusCode != http.StatusNoContent || len(body) > 0 {
		t.Errorf("seen: got %s %q, want 204 and nothing", resp.Status, body)
	}
}

func TestSocket(t *testing.T) {
	h := newHost(t, "Atlas")
	home := h.Home()
	info, err := os.Stat(home.SocketPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: got %v, %v, want mode 0600", info, err)
	}
	if l, err := httpd.Listen(home); !errors.Is(err, maildir.ErrRunning) {
		t.Errorf("second Listen: got %v, %v, want %v", l, err, maildir.ErrRunning)
	}
	h.Stop()
	if err := os.WriteFile(home.SocketPath(), nil, 0o600); err != nil { // left behind
		t.Fatal(err)
	}
	h.Start()
	if err := h.As("").Health(context.Background()); err != nil {
		t.Errorf("after a socket was left behind: %v", err)
	}
}

func TestStopIsAsked(t *testing.T) {
	h := newHost(t, "Atlas")
	if resp, _ := h.ask("POST /v1/stop", "", ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("stop: got %s, want 204", resp.Status)
	}
	h.Stop() // waits for the end
	if err := h.As("").Health(context.Background()); !client.Unreachable(err) {
		t.Errorf("after stop: got %v, want nobody there", err)
	}
}

func TestEvents(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	one, two := h.create("Nova", "one", "Atlas", "Sage"), h.create("Sage", "two", "Atlas")
	h.send("Nova", one, "first")
	h.send("Sage", one, "second")
	h.send("Sage", two, "third")
	h.Post("Sage", &draft{Type: envelope.Leave, Conversation: one})
	h.send("Atlas", one, "mine")
	refs := map[string]string{one: "one", two: "two"}
	for query, want := range map[string][]string{
		"":                                    {"one.1", "one.2", "one.3", "one.4", "two.1", "two.2"},
		"?conversation=" + two:                {"two.1", "two.2"},
		"?from=nova":                          {"one.1", "one.2"},
		"?from=Sage@" + h.Home().Host.Name:    {"one.3", "one.4", "two.1", "two.2"},
		"?type=leave":                         {"one.4"},
		"?type=message&from=Sage":             {"one.3", "two.2"},
		"?conversation=" + one + "&after=2":   {"one.3", "one.4"},
		"?conversation=" + one + "&after=0":   {"one.1", "one.2", "one.3", "one.4"},
		"?conversation=" + one + "&limit=2":   {"one.1", "one.2"},
		"?conversation=" + one + "&after=99":  {},
		"?conversation=" + one + "&from=Rune": {},
		"?from=Nova&wait=1ms":                 {"one.1", "one.2"},
		"?from=Rune&wait=1ms":                 {},
	} {
		got := []string{}
		answer := get[api.Messages](h, "GET /v1/me/events"+query, "Atlas")
		for _, m := range answer.Messages {
			got = append(got, fmt.Sprintf("%s.%d", refs[m.Envelope.Conversation], m.Envelope.Seq))
		}
		slices.Sort(got) // the order between conversations is open
		if !slices.Equal(got, want) || answer.TimedOut != (len(want) == 0) {
			t.Errorf("events%s: got %q, timed out %v, want %q", query, got, answer.TimedOut, want)
		}
	}
	if got := h.files("Atlas"); got != 6 {
		t.Errorf("inbox after all that: got %d files, want 6: asking changes nothing", got)
	}
}

// TestEventsWait: a long poll ends with the first message that it asks for.
func TestEventsWait(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	id := h.create("Atlas", "a", "Nova", "Sage")
	answers := make(chan api.Messages, 1)
	go func() {
		m, err := h.As("Atlas").Events(context.Background(), client.Events{From: "Nova", Wait: time.Minute, Limit: 5})
		if err != nil {
			t.Errorf("events: %v", err)
		}
		answers <- m
	}()
	h.listening("Atlas")
	h.send("Sage", id, "not this one")
	posted := h.send("Nova", id, "this one")
	m := <-answers
	if len(m.Messages) != 1 || m.Messages[0].Ref != posted.Message.Ref || m.TimedOut {
		t.Errorf("events: got %s, want %s", daemontest.JSON(m), posted.Message.Ref)
	}
}

// listening waits until an agent has a live stream.
func (h *host) listening(agent string) {
	h.t.Helper()
	daemontest.Eventually(h.t, func() (bool, string) {
		me, err := h.As(agent).Me(context.Background())
		return err == nil && me.Listening, fmt.Sprintf("%s: %s, %v, want it listening", agent, daemontest.JSON(me), err)
	})
}

// TestEventsEndWithTheDaemon: who waits is answered, and does not hold up the end.
func TestEventsEndWithTheDaemon(t *testing.T) {
	h := newHost(t, "Atlas")
	answers := make(chan error, 1)
	go func() {
		m, err := h.As("Atlas").Events(context.Background(), client.Events{Wait: time.Hour})
		if err == nil && !m.TimedOut {
			err = fmt.Errorf("got %s, want it timed out", daemontest.JSON(m))
		}
		answers <- err
	}()
	h.listening("Atlas")
	h.Stop()
	if err := <-answers; err != nil {
		t.Errorf("events: %v", err)
	}
}

func TestTranscript(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	for i := range 4 {
		h.send("Atlas", id, fmt.Sprint("message ", i))
	}
	path := h.Home().LogPath(id)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("noise\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h.send("Nova", id, "behind the noise") // line 6
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(data), "\n"), func(l string) bool { return l == "noise\n" || l == "" })
	for query, want := range map[string][]string{
		"":                  lines,
		"?after=3":          lines[3:],
		"?after=6":          nil,
		"?after=99":         nil,
		"?before=3":         lines[:2],
		"?before=1":         nil,
		"?after=1&before=4": lines[1:3],
		"?last=2":           lines[4:],
		"?last=99":          lines,
		"?last=2&before=4":  lines[1:3],
		"?limit=2":          lines[:2],
		"?after=2&limit=1":  lines[2:3],
		"?last=4&limit=1":   lines[2:3],
		"?last=2&after=5":   lines[5:],
	} {
		resp, body := h.ask("GET /v1/conversations/"+id+"/messages"+query, "", "")
		if got := string(body); got != strings.Join(want, "") || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("transcript%s: got %s %q, want %q", query, resp.Header.Get("Content-Type"), got, want)
		}
	}
}

// TestBrokenTranscript: a log that fails while it is sent does not look like a short one.
func TestBrokenTranscript(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.Stop()
	log, err := convlog.Open(h.Home().LogPath(id), convlog.Tail{}, nil, convlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = log.Update(t.Context(), func(tx *convlog.Tx) error {
		for range 16 { // more than a socket takes
			e := &draft{ID: envelope.NewID(), Type: envelope.Message, From: h.Home().Address("Nova"), Conversation: id, Content: strings.Repeat("x", 1<<20)}
			if err := tx.Add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, log.Close()); err != nil {
		t.Fatal(err)
	}
	h.Start()
	resp, err := h.http.Get("http://duo/v1/conversations/" + id + "/messages")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if _, err := in.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(h.Home().LogPath(id), 0); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if !errors.Is(err, io.ErrUnexpectedEOF) || resp.StatusCode != http.StatusOK {
		t.Errorf("rest: got %s and %d bytes, %v, want %v", resp.Status, len(rest), err, io.ErrUnexpectedEOF)
	}
	if len(rest) == 0 || rest[len(rest)-1] != '\n' {
		t.Errorf("rest: got %d bytes that end in %q, want whole lines", len(rest), rest[max(0, len(rest)-10):])
	}
}

// TestTranscriptUpToDamage: what stands before it is sent.
func TestTranscriptUpToDamage(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.send("Atlas", id, "before")
	want, err := os.ReadFile(h.Home().LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	h.Stop()
	damaged := fmt.Appendf(want, "{\"seq\":9,\"id\":%q}\n", envelope.NewID())
	if err := os.WriteFile(h.Home().LogPath(id), damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Start()
	resp, body := h.ask("GET /v1/conversations/"+id+"/messages", "", "")
	if resp.StatusCode != http.StatusOK || string(body) != string(want) {
		t.Errorf("got %s %q, want %q", resp.Status, body, want)
	}
}

func TestFind(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	posted := h.send("Nova", id, "hi")
	if f := get[api.Found](h, "GET /v1/refs/nova", ""); f.Agent == nil || f.Agent.Name != "Nova" || f.Conversation != nil || f.Message != nil {
		t.Errorf("a name: got %s", daemontest.JSON(f))
	}
	if f := get[api.Found](h, "GET /v1/refs/nova@"+h.Home().Host.Name, ""); f.Agent == nil {
		t.Errorf("an address: got %s", daemontest.JSON(f))
	}
	for _, ref := range []string{id, posted.Conversation.Ref, strings.ToUpper(posted.Conversation.Ref)} {
		if f := get[api.Found](h, "GET /v1/refs/"+ref, "Atlas"); f.Conversation == nil || f.Conversation.ID != id {
			t.Errorf("%s: got %s, want the conversation", ref, daemontest.JSON(f))
		}
	}
	if f := get[api.Found](h, "GET /v1/refs/"+posted.Message.Ref, ""); f.Message == nil || f.Message.Envelope.Content != "hi" || f.Message.Topic != "a" {
		t.Errorf("%s: got %s, want the message", posted.Message.Ref, daemontest.JSON(f))
	}
	if _, err := h.As("").Unregister(context.Background(), "Nova"); err != nil {
		t.Fatal(err)
	}
	if f := get[api.Found](h, "GET /v1/refs/Nova", ""); f.Agent == nil || !f.Agent.Unregistered {
		t.Errorf("who has unregistered: got %s, want it said", daemontest.JSON(f))
	}
}

// TestFindNamesLikeReferences: a conversation that there is comes before an agent with
// the name; its address names the agent.
func TestFindNamesLikeReferences(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "caffe", "carol")
	id := h.create("Atlas", "a", "Nova")
	ref := h.send("Nova", id, "hi").Conversation.Ref
	h.Register(ref)
	host := "@" + h.Home().Host.Name
	for text, want := range map[string]string{
		ref: "conversation", strings.ToUpper(ref): "conversation", ref + ".2": "message", ref + host: ref,
		"caffe": "caffe", "CAFFE" + host: "caffe", "carol": "carol",
	} {
		f := get[api.Found](h, "GET /v1/refs/"+text, "")
		got := "nothing"
		switch {
		case f.Conversation != nil && f.Conversation.ID == id:
			got = "conversation"
		case f.Message != nil && f.Message.Envelope.Conversation == id:
			got = "message"
		case f.Agent != nil:
			got = f.Agent.Name
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]api.Code{
		"caff": api.AgentNotFound, "caffd": api.ConversationNotFound, "carola" + host: api.AgentNotFound, "carol@moon": api.HostNotFound, "caffe.1": api.ConversationNotFound,
	} {
		_, body := h.ask("GET /v1/refs/"+text, "", "")
		if !bytes.Contains(body, []byte(`"code":"`+want+`"`)) {
			t.Errorf("%s: got %s, want %s", text, body, want)
		}
	}
}

func TestCurrent(t *testing.T) {
	h := newHost(t, "Atlas")
	if c := get[api.Current](h, "GET /v1/me/current", "Atlas"); c.Conversation != "" {
		t.Errorf("at first: got %q, want none", c.Conversation)
	}
	one, two := h.create("Atlas", "one"), h.Post("Atlas", &draft{Type: envelope.Create, Topic: "two"}).Conversation
	if c := get[api.Current](h, "GET /v1/me/current", "Atlas"); c.Conversation != two.ID {
		t.Errorf("created: got %q, want %q", c.Conversation, two.ID)
	}
	h.ask("PUT /v1/me/current", "Atlas", `{"conversation":"`+one+`"}`)
	if c := get[api.Current](h, "GET /v1/me/current", "Atlas"); c.Conversation != one {
		t.Errorf("set: got %q, want %q", c.Conversation, one)
	}
}

// TestDamagedConversation: what stands before the damage can be read and marked seen.
func TestDamagedConversation(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.send("Atlas", id, "before")
	f, err := os.OpenFile(h.Home().LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":9,"id":"` + envelope.NewID() + "\",\"from\":\"Nova@x\"}\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	resp, body := h.ask("POST /v1/conversations/"+id+"/messages", "Atlas", `{"content":"hi"}`)
	if resp.StatusCode != http.StatusConflict || !bytes.Contains(body, []byte(api.Damaged)) {
		t.Errorf("send: got %s %s, want it refused as damaged", resp.Status, body)
	}
	if c := get[api.Conversation](h, "GET /v1/conversations/"+id, ""); c.Status != "damaged" || c.Topic != "a" || c.LastSeq != 2 || c.Reason == "" {
		t.Errorf("conversation: got %s, want it damaged behind line 2", daemontest.JSON(c))
	}
	if err := h.As("Nova").Shown(context.Background(), []api.Place{{Conversation: id, Seq: 1}, {Conversation: id, Seq: 2}}); err != nil {
		t.Errorf("seen: %v", err)
	}
	inbox, err := h.As("Nova").Inbox(context.Background(), 10)
	if err != nil || len(inbox.Items) != 0 {
		t.Errorf("inbox: got %s, %v, want nothing left", daemontest.JSON(inbox), err)
	}
}

// TestBadHome: a socket needs a folder that others cannot get into.
func TestBadHome(t *testing.T) {
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(home.RunDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home.RunDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := httpd.Listen(home); err == nil {
		t.Errorf("Listen with a file in place of the folder: got %v, want an error", l.Addr())
	}
}

// TestDeletedSocket: a socket file that somebody has removed is made again.
func TestDeletedSocket(t *testing.T) {
	h := newHost(t, "Atlas")
	if err := os.Remove(h.Home().SocketPath()); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		err := h.As("Atlas").Health(context.Background())
		return err == nil, fmt.Sprintf("health: %v", err)
	})
	if _, err := h.As("Atlas").Me(context.Background()); err != nil {
		t.Errorf("through the new socket: %v", err)
	}
	h.Stop()
	if _, err := os.Lstat(h.Home().SocketPath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after the end: got %v, want none", err)
	}
}
