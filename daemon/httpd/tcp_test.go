package httpd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

// outside is a program that reaches a host over TCP.
type outside struct {
	*host
	address string
}

func newOutside(t *testing.T, config string, agents ...string) *outside {
	t.Helper()
	h := &host{Host: daemontest.NewWith(t, "http.listen = '127.0.0.1:0'\n"+config, agents...), t: t}
	h.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	o := &outside{host: h}
	o.find()
	return o
}

// find asks where the host is reached over TCP.
func (o *outside) find() {
	o.t.Helper()
	daemontest.Eventually(o.t, func() (bool, string) {
		status, err := o.As("").Status(context.Background())
		o.address = status.HTTP
		return o.address != "", fmt.Sprintf("status: %v, want an address", err)
	})
}

// own is the token in an agent's folder.
func (o *outside) own(agent string) string {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(o.Home().AgentDir(agent), "token"))
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func (o *outside) token(agent string) api.Token {
	o.t.Helper()
	token, err := o.As("").NewToken(context.Background(), agent, "test")
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

// with asks with a token and headers.
func (o *outside) with(token, route, body string, headers ...string) (*http.Response, []byte) {
	o.t.Helper()
	req := o.request(o.address, route, body)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	return o.do(req)
}

// TestWhoMay: what each token lets its bearer do, and what nothing does.
func TestWhoMay(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	private := o.create("Atlas", "private", "Nova")
	open := o.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "open", Open: true}).Conversation.ID
	atlas, sage, watcher := o.own("Atlas"), o.own("Sage"), o.token("").Text
	revoked := o.token("Atlas")
	if err := o.As("").RevokeToken(context.Background(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	in, say := "/v1/conversations/"+private, `{"content":"hi"}`
	for _, test := range []struct {
		what, token, route, body string
		headers                  []string
		status                   int
		code                     api.Code
	}{
		{"nobody", "", "GET /v1/agents", "", nil, 401, api.Unauthorized},
		{"nobody", "", "GET /v1/me", "", []string{api.AgentHeader, "Atlas"}, 401, api.Unauthorized},
		{"nobody", "", "GET /v1/stream", "", nil, 401, api.Unauthorized},
		{"nobody", "", "GET " + in + "/messages", "", nil, 401, api.Unauthorized},
		{"a guess", "duo_a_atlas_" + strings.Repeat("a", 52), "GET /v1/me", "", nil, 401, api.Unauthorized},
		{"a path", "duo_a_../../etc/passwd_x", "GET /v1/me", "", nil, 401, api.Unauthorized},
		{"revoked", revoked.Text, "GET /v1/me", "", nil, 401, api.Unauthorized},
		{"anybody", "", "GET /healthz", "", nil, 200, ""},
		{"anybody", "", "GET /openapi.yaml", "", nil, 200, ""},
		{"anybody", "", "GET /asyncapi.yaml", "", nil, 200, ""},

		{"an agent", atlas, "GET /v1/me", "", nil, 200, ""},
		{"an agent", atlas, "GET /v1/me", "", []string{api.AgentHeader, "atlas"}, 200, ""},
		{"an agent as another", atlas, "GET /v1/me", "", []string{api.AgentHeader, "Nova"}, 403, api.NotAllowed},
		{"an agent", atlas, "POST " + in + "/messages", say, nil, 200, ""},
		{"an agent", atlas, "GET " + in + "/messages", "", nil, 200, ""},
		{"an agent", atlas, "POST /v1/agents", `{"name":"Atlas","description":"me"}`, nil, 200, ""},
		{"an agent", atlas, "POST /v1/agents", `{"name":"Other"}`, nil, 403, api.NotAllowed},
		{"an agent", atlas, "DELETE /v1/agents/Nova", "", nil, 403, api.NotAllowed},
		{"an agent", atlas, "POST /v1/stop", "", nil, 403, api.NotAllowed},
		{"an agent", atlas, "GET /v1/tokens", "", nil, 403, api.NotAllowed},
		{"an agent", atlas, "POST /v1/tokens", `{"agent":"Nova"}`, nil, 403, api.NotAllowed},

		{"who is not in it", sage, "GET " + in, "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "GET " + in + "/messages", "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "GET " + in + ".1/receipts", "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "GET /v1/refs/" + private + ".1", "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "POST /v1/me/read", `{"refs":["` + private + `.1"]}`, nil, 403, api.NotParticipant},
		{"who is not in it", sage, "GET /v1/me/events?conversation=" + private + "&after=0", "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "PUT /v1/me/current", `{"conversation":"` + private + `"}`, nil, 403, api.NotParticipant},
		{"who is not in it", sage, "POST " + in + "/typing", "", nil, 403, api.NotParticipant},
		{"who is not in it", sage, "POST " + in + "/messages", say, nil, 403, api.NotParticipant},
		{"anyone", sage, "GET /v1/conversations/" + open, "", nil, 200, ""},

		{"an observer", watcher, "GET /v1/agents", "", nil, 200, ""},
		{"an observer", watcher, "GET " + in + "/messages", "", nil, 200, ""},
		{"an observer", watcher, "GET /v1/conversations", "", nil, 200, ""},
		{"an observer", watcher, "GET /v1/me", "", nil, 403, api.ReadOnly},
		{"an observer", watcher, "GET /v1/me", "", []string{api.AgentHeader, "Atlas"}, 403, api.ReadOnly},
		{"an observer", watcher, "POST " + in + "/messages", say, nil, 403, api.ReadOnly},
		{"an observer", watcher, "POST /v1/agents", `{"name":"Other"}`, nil, 403, api.ReadOnly},
		{"an observer", watcher, "POST /v1/stop", "", nil, 403, api.ReadOnly},

		{"a page", atlas, "GET /v1/me", "", []string{"Origin", "http://evil.example"}, 403, api.WrongHost},
		{"a page", atlas, "GET /v1/me", "", []string{"Origin", "null"}, 403, api.WrongHost},
		{"a page of another port", atlas, "GET /v1/me", "", []string{"Origin", "http://127.0.0.1:1"}, 403, api.WrongHost},
		{"our own page", atlas, "GET /v1/me", "", []string{"Origin", "http://" + o.address}, 200, ""},
		{"a name that means us", atlas, "GET /v1/me", "", []string{"Host", "evil.example"}, 403, api.WrongHost},
		{"a name that means us", "", "GET /healthz", "", []string{"Host", "evil.example:7600"}, 403, api.WrongHost},
		{"another address", atlas, "GET /v1/me", "", []string{"Host", "10.0.0.1"}, 403, api.WrongHost},
		{"localhost", atlas, "GET /v1/me", "", []string{"Host", "localhost"}, 200, ""},
		{"IPv6", atlas, "GET /v1/me", "", []string{"Host", "[::1]:7600"}, 200, ""},
	} {
		resp, body := o.with(test.token, test.route, test.body, test.headers...)
		var p api.Problem
		_ = json.Unmarshal(body, &p) // where it is one
		if resp.StatusCode != test.status || p.Code != test.code {
			t.Errorf("%s, %s: got %d %.300s, want %d %s", test.what, test.route, resp.StatusCode, body, test.status, test.code)
		}
		if test.code == api.Unauthorized && resp.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s, %s: got %v, want it said how", test.what, test.route, resp.Header)
		}
	}
	if lines := o.Log(private); len(lines) != 2 {
		t.Errorf("log: got %d lines, want the first and what Atlas has said", len(lines))
	}
}

// raw sends bytes as they are, and returns the status of the first answer.
func (o *outside) raw(request string) string {
	o.t.Helper()
	conn, err := net.Dial("tcp", o.address)
	if err != nil {
		o.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		o.t.Fatal(err)
	}
	status, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(status)
}

// TestPortIsTaken: the status tells why nobody is let in over TCP, for as long as that is so,
// and who asks for the page is told of an address that nobody has.
func TestPortIsTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	h := newHostWith(t, fmt.Sprintf("http.listen = %q\n", other.Addr()))
	status := get[api.Status](h, "GET /v1/status", "")
	if status.HTTP != "" || len(status.Problems) != 1 || !strings.Contains(status.Problems[0], other.Addr().String()) {
		t.Errorf("taken: got %s, want a problem with %s", daemontest.JSON(status), other.Addr())
	}
	const free = "duo config set http.listen 127.0.0.1:0"
	var refused *api.Error
	if _, err := h.As("").NewLogin(t.Context(), false); !errors.As(err, &refused) || refused.Next != free {
		t.Errorf("a link to the page: got %v, want an error and then %s", err, free)
	}
	if testing.Short() {
		return
	}
	other.Close()
	daemontest.Eventually(t, func() (bool, string) {
		status := get[api.Status](h, "GET /v1/status", "")
		return status.HTTP == other.Addr().String() && len(status.Problems) == 0, daemontest.JSON(status)
	})
}

// TestBentRequests: what two readers could take for different requests is refused.
func TestBentRequests(t *testing.T) {
	o := newOutside(t, "", "Atlas")
	head := "Authorization: Bearer " + o.own("Atlas") + "\r\n"
	for what, request := range map[string]string{
		"two hosts":            "GET /v1/me HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n" + head + "\r\n",
		"no host":              "GET /v1/me HTTP/1.1\r\n" + head + "\r\n",
		"a host in the target": "GET http://evil.example/v1/me HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n",
		"two lengths":          "POST /v1/agents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n" + head + "\r\n{}x",
		"no line of HTTP":      "hello\r\n\r\n",
		"a header of 1 MB":     "GET /v1/me HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n" + head + "\r\n",
		"a bare CR":            "GET /v1/me HTTP/1.1\r\nHost: localhost\rX: y\r\n" + head + "\r\n",
		"a space in a name":    "GET /v1/me HTTP/1.1\r\nHost : localhost\r\n" + head + "\r\n",
	} {
		status := o.raw(request)
		if !strings.HasPrefix(status, "HTTP/1.1 4") && !strings.Contains(status, "reset") && status != "EOF" {
			t.Errorf("%s: got %q, want it refused", what, status)
		}
	}
	if status := o.raw("GET /v1/me HTTP/1.1\r\nHost: localhost\r\n" + head + "\r\n"); status != "HTTP/1.1 200 OK" {
		t.Errorf("a plain one: got %q, want it answered", status)
	}
}

// TestConnectionsAreCounted: who comes when all places are taken is told so, and those
// inside do not notice.
func TestConnectionsAreCounted(t *testing.T) {
	o := newOutside(t, "http.connections = 3", "Atlas")
	var inside []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", o.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		inside = append(inside, conn)
	}
	daemontest.Eventually(t, func() (bool, string) {
		status := o.raw("")
		return strings.HasPrefix(status, "HTTP/1.1 503"), status
	})
	if _, err := io.WriteString(inside[0], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if status, err := bufio.NewReader(inside[0]).ReadString('\n'); err != nil || !strings.Contains(status, "200") {
		t.Errorf("inside: got %q, %v, want an answer", status, err)
	}
	_ = inside[1].Close()
	daemontest.Eventually(t, func() (bool, string) {
		resp, err := http.Get("http://" + o.address + "/healthz")
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, resp.Status
	})
}

func TestRateOverHTTP(t *testing.T) {
	o := newOutside(t, "limits.rate = 0.01\nlimits.burst = 3", "Atlas", "Nova")
	token := o.own("Atlas")
	for i := range 3 {
		if resp, body := o.with(token, "POST /v1/messages", fmt.Sprintf(`{"to":"Nova","content":"%d"}`, i)); resp.StatusCode != 200 {
			t.Fatalf("message %d: got %s %s", i, resp.Status, body)
		}
	}
	resp, body := o.with(token, "POST /v1/messages", `{"to":"Nova","content":"one too many"}`)
	after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusTooManyRequests || err != nil || after < 1 || after > 100 || !strings.Contains(string(body), "rate_limited") {
		t.Errorf("too many: got %s %s, Retry-After %q", resp.Status, body, resp.Header.Get("Retry-After"))
	}
}

// TestIdempotencyKey: the same key is the same message, of one agent.
func TestIdempotencyKey(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova")
	send := func(agent, key, text string) (int, api.Posted) {
		to := map[string]string{"Atlas": "Nova", "Nova": "Atlas"}[agent]
		resp, body := o.with(o.own(agent), "POST /v1/messages", `{"to":"`+to+`","content":"`+text+`"}`, "Idempotency-Key", key)
		posted := api.Posted{Message: api.Message{Envelope: new(envelope.Envelope)}}
		if err := json.Unmarshal(body, &posted); err != nil && resp.StatusCode == http.StatusOK {
			t.Fatalf("%s: %v", body, err)
		}
		return resp.StatusCode, posted
	}
	_, first := send("Atlas", "k", "hi")
	status, again := send("Atlas", "k", "hi")
	if status != 200 || !again.Duplicate || again.Message.Ref != first.Message.Ref {
		t.Errorf("again: got %d %s, want the first one, %s", status, daemontest.JSON(again), first.Message.Ref)
	}
	if _, other := send("Nova", "k", "hi"); other.Duplicate {
		t.Errorf("another agent: got %s, want its own message", daemontest.JSON(other))
	}
	if status, _ := send("Atlas", strings.Repeat("k", 300), "hi"); status != 422 {
		t.Errorf("a long key: got %d, want 422", status)
	}
}

// TestPages: a list in parts is the list.
func TestPages(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	var want []string
	for i := range 5 {
		want = append([]string{h.create("Nova", fmt.Sprint("topic ", i), "Atlas")}, want...)
	}
	var got []string
	for path := "/v1/conversations?limit=2"; path != ""; {
		resp, body := h.ask("GET "+path, "Atlas", "")
		var list api.Conversations
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatalf("%s: %s", path, body)
		}
		for _, c := range list.Conversations {
			got = append(got, c.ID)
		}
		link, ok := strings.CutPrefix(resp.Header.Get("Link"), "<")
		path, _, _ = strings.Cut(link, ">")
		if ok != (list.Next != "") || len(got) > len(want) {
			t.Fatalf("%s: got the link %q and the cursor %q, after %d", path, link, list.Next, len(got))
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("conversations: got %q, want %q", got, want)
	}
	items := map[string]bool{}
	for cursor, rounds := "", 0; rounds < 9; rounds++ {
		inbox := get[api.Inbox](h, "GET /v1/me/inbox?limit=2&cursor="+cursor, "Atlas")
		for _, i := range inbox.Items {
			items[i.Ref] = true
		}
		if cursor = inbox.Next; cursor == "" {
			break
		}
	}
	if len(items) != 5 {
		t.Errorf("inbox: got %d items, want 5", len(items))
	}
	if resp, body := h.ask("GET /v1/agents?cursor=x", "", ""); resp.StatusCode != 422 {
		t.Errorf("a bad cursor: got %s %s", resp.Status, body)
	}
}

// TestEventsInParts: who carries the cursor on is given everything once, and nothing is
// marked.
func TestEventsInParts(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	one, two := h.create("Nova", "one", "Atlas"), h.create("Nova", "two", "Atlas")
	for i := range 3 {
		h.send("Nova", one, fmt.Sprint("one ", i))
		h.send("Nova", two, fmt.Sprint("two ", i))
	}
	if _, err := h.As("Nova").Call(context.Background(), &draft{Type: envelope.Call, To: []string{"Atlas"}, Topic: "ring"}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	after := ""
	take := func() int {
		m := get[api.Messages](h, "GET /v1/me/events?limit=2&after="+after, "Atlas")
		for _, e := range m.Messages {
			got[e.Ref]++
		}
		after = m.Next
		return len(m.Messages)
	}
	for rounds := 0; take() > 0 && rounds < 20; rounds++ {
	}
	if len(got) != 9 {
		t.Errorf("events: got %v, want two first lines, six messages and a call", got)
	}
	h.send("Nova", two, "late")
	if n := take(); n != 1 {
		t.Errorf("later: got %d, want 1", n)
	}
	for ref, n := range got {
		if n != 1 {
			t.Errorf("%s: got it %d times, want once", ref, n)
		}
	}
	if n := h.files("Atlas"); n != 9 {
		t.Errorf("inbox: got %d messages, want all nine still unseen", n)
	}
	if resp, body := h.ask("GET /v1/me/events?after=zzz", "Atlas", ""); resp.StatusCode != 422 {
		t.Errorf("a bad cursor: got %s %s", resp.Status, body)
	}
}

// TestObserver: who watches sees what all say, and changes nothing.
func TestObserver(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova")
	old := o.create("Atlas", "old", "Nova")
	token := o.token("").Text
	conn, resp, err := websocket.DefaultDialer.Dial("ws://"+o.address+"/v1/stream", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatalf("dial: %v, %v", err, resp)
	}
	defer conn.Close()
	s := &stream{conn, t}
	s.say(`{"op":"subscribe","after":{"` + old + `":0},"typing":true,"presence":true}`)
	var ready api.StreamReady
	if err := s.ReadJSON(&ready); err != nil || ready.Op != "ready" || ready.Agent != "" {
		t.Fatalf("ready: got %+v, %v", ready, err)
	}
	s.wantNext(old, 1)
	fresh := o.create("Nova", "fresh", "Atlas")
	o.send("Nova", fresh, "hi")
	s.wantNext(fresh, 1, 2)
	s.say(`{"op":"send","key":"k","message":{"conversation":"` + fresh + `","content":"me too"}}`)
	var reply api.StreamReply
	if err := s.ReadJSON(&reply); err != nil || reply.Op != "refused" || reply.Key != "k" || reply.Problem.Code != api.ReadOnly {
		t.Errorf("send: got %s, %v, want it refused", daemontest.JSON(reply), err)
	}
	o.state(fresh, 2, api.Delivered) // in the inbox: the observer counts for nothing
	if a, err := o.As("").Find(context.Background(), "Atlas"); err != nil || a.Agent.Listening {
		t.Errorf("Atlas: got %+v, %v, want nobody listening", a, err)
	}
}

// TestRevokingEndsWhatGoesOn: streams of agents and observers, and waits, with the token that
// was revoked and no other.
func TestRevokingEndsWhatGoesOn(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova")
	open := func(token string) *stream {
		conn, resp, err := websocket.DefaultDialer.Dial("ws://"+o.address+"/v1/stream", http.Header{"Authorization": {"Bearer " + token}})
		if err != nil {
			t.Fatalf("dial: %v, %v", err, resp)
		}
		t.Cleanup(func() { conn.Close() })
		s := &stream{conn, t}
		s.say(`{"op":"subscribe"}`)
		var ready api.StreamReady
		if err := s.ReadJSON(&ready); err != nil || ready.Op != "ready" {
			t.Fatalf("ready: got %+v, %v", ready, err)
		}
		return s
	}
	watcher, agents, stays := o.token(""), o.token("Atlas"), o.token("Atlas")
	streams := map[string]*stream{watcher.ID: open(watcher.Text), agents.ID: open(agents.Text), "nova": open(o.own("Nova"))}
	other := open(stays.Text)
	waits := make(chan string, 1)
	go func() {
		resp, data := o.with(agents.Text, "GET /v1/me/events?wait=5m", "")
		waits <- fmt.Sprint(resp.StatusCode, string(data))
	}()
	daemontest.Eventually(t, func() (bool, string) {
		status, err := o.As("").Status(context.Background())
		return err == nil && status.Streams == 5, fmt.Sprintf("got %+v, %v, want 5 streams", status, err)
	})
	for id, s := range streams {
		if err := o.As("").RevokeToken(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		_, frame, err := s.ReadMessage()
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != 4001 || !strings.HasPrefix(closed.Text, "unauthorized: ") {
			t.Errorf("%s: got %q, %v, want the stream closed with 4001 unauthorized", id, frame, err)
		}
	}
	if got := <-waits; !strings.HasPrefix(got, "401") || !strings.Contains(got, "revoked") {
		t.Errorf("the wait: got %s, want 401", got)
	}
	id := o.create("Nova", "goes on", "Atlas")
	other.wantNext(id, 1)
}

// TestRevokingEndsMCP: the stream of a model's session, too.
func TestRevokingEndsMCP(t *testing.T) {
	o := newOutside(t, "", "Atlas")
	token := o.token("Atlas")
	resp, data := o.with(token.Text, "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`,
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream")
	session := resp.Header.Get("Mcp-Session-Id")
	if resp.StatusCode != http.StatusOK || session == "" {
		t.Fatalf("initialize: got %s %s, want a session", resp.Status, data)
	}
	req := o.request(o.address, "GET /mcp", "")
	for name, value := range map[string]string{"Authorization": "Bearer " + token.Text, "Accept": "text/event-stream", "Mcp-Session-Id": session} {
		req.Header.Set(name, value)
	}
	resp, err := o.http.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: got %v, %v, want it open", resp, err)
	}
	defer resp.Body.Close()
	if err := o.As("").RevokeToken(context.Background(), token.ID); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, resp.Body); ended <- err }()
	select {
	case <-ended:
	case <-time.After(daemontest.Patience):
		t.Error("the stream goes on")
	}
}

// TestSayOverStream: a stream sends, rings and tells what is wrong with one frame alone.
func TestSayOverStream(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Nova", "a", "Atlas")
	s := h.subscribe("Atlas", api.StreamRequest{Conversations: []string{id}})
	s.wantNext(id, 1)
	reply := func(frame string) (r api.StreamReply) {
		t.Helper()
		s.say(frame)
		if err := s.ReadJSON(&r); err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		return r
	}
	say := `{"op":"send","key":"k1","message":{"conversation":"` + id + `","content":"hi"}}`
	if r := reply(say); r.Op != "sent" || r.Key != "k1" || r.Posted.Message.Envelope.Seq != 2 {
		t.Errorf("send: got %s", daemontest.JSON(r))
	}
	if r := reply(say); r.Op != "sent" || !r.Posted.Duplicate || r.Posted.Message.Envelope.Seq != 2 {
		t.Errorf("again: got %s, want the same message", daemontest.JSON(r))
	}
	if r := reply(`{"op":"send","key":"k2","message":{"to":"Nvoa","content":"hi"}}`); r.Op != "refused" || r.Key != "k2" || r.Problem.Code != api.AgentNotFound {
		t.Errorf("a wrong name: got %s", daemontest.JSON(r))
	}
	if r := reply(`{"op":"send","key":"k3"}`); r.Op != "refused" || r.Problem.Code != api.BadRequest {
		t.Errorf("no message: got %s", daemontest.JSON(r))
	}
	if r := reply(`{"op":"send","key":"k4","message":{"type":"call","to":"Nova","topic":"now"}}`); r.Op != "sent" || r.Called == nil || r.Called.Request.State == "" {
		t.Errorf("a call: got %s", daemontest.JSON(r))
	}
	s.say(`{"op":"presence","status":"busy","note":"reading"}`)
	if r := reply(`{"op":"ping","key":"p"}`); r.Op != "pong" || r.Key != "p" {
		t.Errorf("ping: got %s", daemontest.JSON(r))
	}
	if p := get[api.Presence](h, "GET /v1/me/presence", "Atlas"); p.Status != "busy" || p.Note != "reading" {
		t.Errorf("presence: got %+v, want busy", p)
	}
	if r := reply(`{"op":"presence","status":"asleep"}`); r.Op != "refused" {
		t.Errorf("a wrong status: got %s", daemontest.JSON(r))
	}
	nova := h.subscribe("Nova", api.StreamRequest{Conversations: []string{id}, Typing: true})
	nova.wantNext(id, 2)
	s.say(`{"op":"typing","conversation":"` + id + `"}`)
	if m := nova.next(); m.Envelope.Type != envelope.Typing || m.Envelope.From.Name != "Atlas" {
		t.Errorf("typing: got %s", daemontest.JSON(m))
	}
}

// TestSlowReader: a client that takes nothing is cut with a code that says so, resumes
// without loss, and nobody else notices.
func TestSlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a client has")
	}
	t.Parallel()
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	id := o.create("Atlas", "a", "Nova", "Sage")
	dial := func(agent string) *stream {
		conn, resp, err := websocket.DefaultDialer.Dial("ws://"+o.address+"/v1/stream", http.Header{"Authorization": {"Bearer " + o.own(agent)}})
		if err != nil {
			t.Fatalf("dial: %v, %v", err, resp)
		}
		t.Cleanup(func() { conn.Close() })
		s := &stream{conn, t}
		s.say(`{"op":"subscribe","conversations":["` + id + `"]}`)
		var ready api.StreamReady
		if err := s.ReadJSON(&ready); err != nil {
			t.Fatal(err)
		}
		return s
	}
	slow, quick := dial("Nova"), dial("Sage")
	const messages = 300
	got := make(chan int)
	go func() {
		n := 0
		for ; n < messages+1; n++ {
			if _, _, err := quick.ReadMessage(); err != nil {
				break
			}
		}
		got <- n
	}()
	for i := range messages {
		o.send("Atlas", id, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
	if n := <-got; n != messages+1 {
		t.Errorf("the other one: got %d messages, want %d", n, messages+1)
	}
	daemontest.Eventually(t, func() (bool, string) {
		status, err := o.As("").Status(context.Background())
		return err == nil && status.Streams == 1, fmt.Sprintf("%d streams, %v, want the slow one gone", status.Streams, err)
	})
	taken := 0
	var err error
	for ; err == nil; taken++ {
		_, _, err = slow.ReadMessage()
	}
	if end, ok := err.(*websocket.CloseError); !ok || end.Code != 4008 || !strings.HasPrefix(end.Text, string(api.TooSlow)) {
		t.Errorf("slow: got %v after %d frames, want the close code 4008", err, taken)
	}
	again := dial("Nova")
	for seq := range int64(messages + 1) {
		again.wantNext(id, seq+1)
	}
}
