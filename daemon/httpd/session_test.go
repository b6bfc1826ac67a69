package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/gorilla/websocket"
)

// login makes a link on the local socket.
func (o *outside) login(operator bool) api.Login {
	o.t.Helper()
	login, err := o.As("").NewLogin(context.Background(), operator)
	if err != nil {
		o.t.Fatal(err)
	}
	return login
}

// signIn signs in as a browser does.
func (o *outside) signIn(operator bool) api.SignedIn {
	o.t.Helper()
	resp, body := o.with("", "POST /v1/session", `{"code":"`+o.login(operator).Code+`"}`)
	var in api.SignedIn
	if err := json.Unmarshal(body, &in); err != nil || resp.StatusCode != http.StatusOK {
		o.t.Fatalf("sign in: got %s %s, want a token", resp.Status, body)
	}
	return in
}

func TestSignIn(t *testing.T) {
	o := newOutside(t, "", "Atlas")
	login := o.login(false)
	if want := "http://" + o.address + "/#login=" + login.Code; login.URL != want {
		t.Errorf("url: got %q, want %q", login.URL, want)
	}
	body := `{"code":"` + login.Code + `"}`
	resp, answer := o.with("", "POST /v1/session", body, "Origin", "http://evil.example")
	wantProblem(t, "from another page", resp, answer, api.WrongHost)
	resp, answer = o.with("", "POST /v1/session", body, "Origin", "http://"+o.address)
	var in api.SignedIn
	if err := json.Unmarshal(answer, &in); err != nil || resp.StatusCode != http.StatusOK || in.Role != api.RoleObserver || in.ExpiresAt <= login.ExpiresAt {
		t.Fatalf("got %s %s, want an observer's token", resp.Status, answer)
	}
	resp, answer = o.with("", "POST /v1/session", body)
	wantProblem(t, "the link used twice", resp, answer, api.LoginUsed)
	for _, wrong := range []string{`{"code":"x"}`, `{}`, ``} {
		resp, answer = o.with("", "POST /v1/session", wrong)
		wantProblem(t, "a wrong code "+wrong, resp, answer, api.Unauthorized)
	}
	resp, answer = o.with(in.Token, "POST /v1/session/codes", "")
	wantProblem(t, "a link by whom one has let in", resp, answer, api.ReadOnly)

	o.Host.Stop()
	o.Start()
	o.find()
	resp, answer = o.with(in.Token, "GET /v1/session", "")
	var session api.Session
	if err := json.Unmarshal(answer, &session); err != nil || session.Role != api.RoleObserver || session.Host != o.Home().Host.Name || session.HostID == "" || session.Human != "" {
		t.Errorf("after a start: got %s %s, want the observer known", resp.Status, answer)
	}
	if resp, answer := o.with(in.Token, "DELETE /v1/session", ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("sign out: got %s %s", resp.Status, answer)
	}
	resp, answer = o.with(in.Token, "GET /v1/session", "")
	wantProblem(t, "signed out", resp, answer, api.Unauthorized)
	resp, answer = o.with(o.own("Atlas"), "DELETE /v1/session", "")
	wantProblem(t, "an agent signs out", resp, answer, api.NotAllowed)
}

// TestOperatorOfThePage: who signs in as the operator speaks as human and for no other
// agent, and rules the host from its own socket alone.
func TestOperatorOfThePage(t *testing.T) {
	o := newOutside(t, "", "Atlas")
	private := o.create("Atlas", "private")
	operator := o.signIn(true)
	if operator.Role != api.RoleOperator {
		t.Errorf("role: got %q, want %q", operator.Role, api.RoleOperator)
	}
	resp, body := o.with(operator.Token, "GET /v1/session", "")
	var session api.Session
	if err := json.Unmarshal(body, &session); err != nil || session.Role != api.RoleOperator || session.Human != "human@"+o.Home().Host.Name {
		t.Errorf("got %s %s, want the operator, and as whom it speaks", resp.Status, body)
	}
	if resp, body := o.with(operator.Token, "GET /v1/conversations/"+private+"/messages", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("read: got %s %s", resp.Status, body)
	}
	for route, agent := range map[string]string{
		"POST /v1/stop": "", "GET /v1/tokens": "", "POST /v1/tokens": "", "POST /v1/session/codes": "", "POST /v1/peers/codes": "", "GET /v1/me": "Atlas",
		"POST /v1/messages": "Atlas", "POST /v1/agents": "", "DELETE /v1/agents/Atlas": "",
	} {
		resp, body := o.with(operator.Token, route, "", api.AgentHeader, agent)
		wantProblem(t, route, resp, body, api.NotAllowed)
	}
}

// TestStreamOfABrowser: a browser cannot set headers of a WebSocket, so the token stands
// among the protocols, of which the answer names only the stream's own.
func TestStreamOfABrowser(t *testing.T) {
	o := newOutside(t, "")
	in := o.signIn(false)
	dial := func(protocols ...string) (*websocket.Conn, *http.Response, error) {
		d := websocket.Dialer{Subprotocols: protocols}
		return d.Dial("ws://"+o.address+"/v1/stream", http.Header{"Origin": {"http://" + o.address}})
	}
	conn, resp, err := dial("duo", "bearer."+in.Token)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "duo" {
		t.Errorf("protocol: got %q, want %q", got, "duo")
	}
	if err := conn.WriteJSON(api.StreamRequest{Op: api.OpSubscribe}); err != nil {
		t.Fatal(err)
	}
	var ready api.StreamReady
	if err := conn.ReadJSON(&ready); err != nil || ready.Op != "ready" {
		t.Errorf("got %+v, %v, want ready", ready, err)
	}
	if err := o.As("").RevokeToken(context.Background(), strings.Split(in.Token, "_")[2]); err != nil {
		t.Fatal(err)
	}
	var closed *websocket.CloseError
	if _, _, err := conn.ReadMessage(); !errors.As(err, &closed) || closed.Code != 4001 {
		t.Errorf("revoked: got %v, want 4001", err)
	}
	for _, protocols := range [][]string{{"duo"}, {"duo", "bearer."}, {"duo", "bearer.duo_s_x_y"}, {"duo", "bearer." + in.Token}} {
		if _, resp, err := dial(protocols...); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: got %v, want it refused", protocols, err)
		}
	}
}
