package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

// stand gives an agent a standing, as the user of the home.
func (h *host) stand(agent, word string) {
	h.t.Helper()
	if _, err := h.As("").SetStanding(context.Background(), agent, api.Standing{Standing: word, Reason: "why"}); err != nil {
		h.t.Fatal(err)
	}
}

// TestWhoSteers: what each kind of caller may do of what the operator may, on each route.
func TestWhoSteers(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	private, other := o.create("Nova", "private", "Sage"), o.create("Nova", "other", "Sage")
	callers := []string{"operator", "observer's session", "observer", "agent", "another agent", "nobody"}
	tokens := map[string]string{
		"operator": o.signIn(true).Token, "observer's session": o.signIn(false).Token, "observer": o.token("").Text,
		"agent": o.own("Nova"), "another agent": o.own("Atlas"), "nobody": "",
	}
	const human = "human"
	for _, test := range []struct {
		route, as, body string
		codes           [6]api.Code // for each of callers; empty where it is done
	}{
		{"PUT /v1/agents/Sage/standing", "", `{"standing":"muted"}`, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"PUT /v1/agents/Sage/standing", "", `{"standing":"none"}`, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"GET /v1/standings", "", "", [6]api.Code{"", "", "", "", "", api.Unauthorized}},
		{"GET /v1/me", human, "", [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/conversations/" + private + "/messages", human, `{"content":"hi"}`, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/conversations/" + private + "/participants", human, ``, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/conversations/" + private + "/messages", "", `{"content":"hi"}`, [6]api.Code{api.IdentityRequired, api.ReadOnly, api.ReadOnly, "", api.NotParticipant, api.Unauthorized}},
		{"POST /v1/messages", human, `{"to":"Sage","content":"hi"}`, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/conversations/" + other + "/close", human, `{"reason":"x"}`, [6]api.Code{"", api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/messages", "Sage", `{"to":"Nova","content":"hi"}`, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/agents", "", `{"name":"Rune"}`, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"DELETE /v1/agents/Sage", "", ``, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/tokens", "", `{}`, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/stop", "", ``, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/key", "", ``, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
		{"POST /v1/peers", "", `{}`, [6]api.Code{api.NotAllowed, api.ReadOnly, api.ReadOnly, api.NotAllowed, api.NotAllowed, api.Unauthorized}},
	} {
		for i, caller := range callers {
			var headers []string
			if test.as != "" {
				headers = []string{api.AgentHeader, test.as}
			}
			resp, body := o.with(tokens[caller], test.route, test.body, headers...)
			what := caller + ", " + test.route + " as " + test.as
			switch {
			case test.codes[i] != "":
				wantProblem(t, what, resp, body, test.codes[i])
			case resp.StatusCode >= 300:
				t.Errorf("%s: got %s %s, want it done", what, resp.Status, body)
			}
		}
	}
	resp, body := o.with(tokens["operator"], "POST /mcp", "{}", api.AgentHeader, human)
	wantProblem(t, "a model that is a person", resp, body, api.NotAllowed)
	log := o.Log(private)
	if e := log[3]; e.From.Name != human || !e.Operator || log[4].Content != "hi" || log[4].From.Name != human {
		t.Errorf("the log: got %s and %s, want the human to come in and speak", log[3].Append(nil), log[4].Append(nil))
	}
}

// TestNobodySpeaksAsAnAgentOfTheName: where an agent of before is called as the person would
// be, who has signed in as the operator neither reads its mail nor speaks as it.
func TestNobodySpeaksAsAnAgentOfTheName(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova")
	o.Post("Atlas", &draft{Type: envelope.Message, To: []string{"Nova"}, Content: "for Nova alone"})
	o.Stop()
	config := "http.listen = '127.0.0.1:0'\noperator.name = 'nova'\n"
	if err := os.WriteFile(o.Home().ConfigPath(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Start()
	o.find()
	token := o.signIn(true).Token
	for _, as := range []string{"human", "Nova"} {
		for _, route := range []string{"GET /v1/me/inbox", "POST /v1/messages", "GET /v1/stream"} {
			resp, body := o.with(token, route, `{"to":"Atlas","content":"I am Nova"}`, api.AgentHeader, as)
			wantProblem(t, route+" as "+as, resp, body, api.NotAllowed)
		}
	}
	if resp, body := o.with(o.own("Nova"), "POST /v1/messages", `{"to":"Atlas","content":"It is me"}`); resp.StatusCode != http.StatusOK {
		t.Errorf("the agent itself: got %s %s, want it taken", resp.Status, body)
	}
}

// TestSilentAtEveryDoor: HTTP with and without a token and the stream refuse the same with
// the same code, and streams of one that is blocked end.
func TestSilentAtEveryDoor(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova")
	id := o.create("Atlas", "talk", "Nova")
	say := `{"content":"psst"}`
	o.stand("Nova", "muted")
	resp, body := o.with(o.own("Nova"), "POST /v1/conversations/"+id+"/messages", say)
	wantProblem(t, "with a token", resp, body, api.Muted)
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status: got %d, want 403", resp.StatusCode)
	}
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+o.address+"/v1/stream", http.Header{"Authorization": {"Bearer " + o.own("Nova")}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &stream{conn, t}
	s.say(`{"op":"subscribe","conversations":["` + id + `"]}`)
	var ready api.StreamReady
	if err := s.ReadJSON(&ready); err != nil {
		t.Fatal(err)
	}
	s.wantNext(id, 1, 2) // the create, and that it is muted
	for _, frame := range []string{
		`{"op":"send","key":"k","message":{"conversation":"` + id + `","content":"psst"}}`,
		`{"op":"send","key":"k","message":{"type":"call","to":"Atlas"}}`,
		`{"op":"presence","status":"busy","note":"psst"}`,
	} {
		s.say(frame)
		var r api.StreamReply
		if err := s.ReadJSON(&r); err != nil || r.Op != "refused" || r.Problem.Code != api.Muted {
			t.Errorf("%s: got %s, %v, want it refused", frame, daemontest.JSON(r), err)
		}
	}
	for _, card := range []string{`{"name":"Nova","description":"psst"}`, `{"name":"NOVA","capabilities":["psst"]}`, `{"name":"Nova","platform":"psst"}`} {
		resp, body := o.with(o.own("Nova"), "POST /v1/agents", card)
		wantProblem(t, card, resp, body, api.Muted)
		resp, body = o.local().ask("POST /v1/agents", "", card)
		wantProblem(t, "on the socket, "+card, resp, body, api.Muted)
	}
	if resp, body := o.with(o.own("Nova"), "POST /v1/agents", `{"name":"Nova","description":"","capabilities":[],"accepts":"known"}`); resp.StatusCode != http.StatusOK {
		t.Errorf("its card with no new word: got %s %s, want it taken", resp.Status, body)
	}
	if a := get[api.Agent](o.local(), "GET /v1/agents/Nova", ""); a.Standing != "muted" || a.Terms == nil || a.Terms.Reason != "why" || !strings.HasPrefix(a.Terms.By, "human@") {
		t.Errorf("as others see it: got %s", daemontest.JSON(a))
	}
	o.stand("Nova", "blocked")
	var closed *websocket.CloseError
	for err == nil { // the line that says so may come first
		_, _, err = s.ReadMessage()
	}
	if !errors.As(err, &closed) || closed.Code != 4001 || !strings.HasPrefix(closed.Text, "blocked: ") {
		t.Errorf("the stream of one that is blocked: got %v, want 4001 blocked", err)
	}
	for _, route := range []string{"GET /v1/me/inbox", "GET /v1/agents", "GET /v1/stream", "POST /v1/messages"} {
		resp, body := o.with(o.own("Nova"), route, "")
		wantProblem(t, "blocked, "+route, resp, body, api.Blocked)
	}
	inbox := get[api.Inbox](o.local(), "GET /v1/me/inbox", "Nova")
	if len(inbox.Items) == 0 {
		t.Error("its inbox: got nothing, want the user of the home to read it")
	}
	if n := len(o.Log(id)); n != 3 {
		t.Errorf("the log: got %d lines, want the create and two standings", n)
	}
	o.stand("Nova", "none")
	if resp, body := o.with(o.own("Nova"), "POST /v1/conversations/"+id+"/messages", say); resp.StatusCode != http.StatusOK {
		t.Errorf("after all: got %s %s, want it taken", resp.Status, body)
	}
}

// local is the same host on its socket.
func (o *outside) local() *host {
	h := &host{Host: o.Host, t: o.t}
	h.http = &http.Client{Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
	return h
}

// TestStandingBodies: what cannot be given is refused, and changes nothing.
func TestStandingBodies(t *testing.T) {
	h := newHost(t, "Atlas")
	for _, body := range []string{``, `{}`, `{"standing":"banned"}`, `{"standing":"MUTED"}`, `{"standing":1}`, `{"standing":"muted","until":"soon"}`, `{"standing":"muted","until":-5}`,
		`{"standing":"muted","mood":1}`, `{"standing":"muted"}{}`, `[]`, `{"standing":"muted","reason":"a\nb"}`, `{"standing":"none","until":99999999999999}`} {
		resp, data := h.ask("PUT /v1/agents/Atlas/standing", "", body)
		wantProblem(t, body, resp, data, api.BadRequest)
	}
	var list api.Agents
	_, data := h.ask("GET /v1/standings", "", "")
	if err := json.Unmarshal(data, &list); err != nil || len(list.Agents) != 0 || list.Agents == nil {
		t.Errorf("standings: got %s, %v, want an empty list", data, err)
	}
	resp, data := h.ask("PUT /v1/agents/"+strings.Repeat("x", 40)+"/standing", "", `{"standing":"muted"}`)
	wantProblem(t, "a long name", resp, data, api.BadReference)
	h.Post("Atlas", &draft{Type: envelope.Create, Topic: "it says what it likes"})
}
