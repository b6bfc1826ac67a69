package httpd_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// hits searches with a token until the index has everything, and returns the answer.
func (o *outside) hits(token, query string) (hits api.Hits) {
	o.t.Helper()
	daemontest.Eventually(o.t, func() (bool, string) {
		resp, data := o.with(token, "GET /v1/search?"+query, "")
		hits = api.Hits{}
		if err := json.Unmarshal(data, &hits); err != nil || resp.StatusCode != http.StatusOK {
			o.t.Fatalf("search %s: got %s %s, %v", query, resp.Status, data, err)
		}
		return hits.Behind == (api.Lag{}), string(data)
	})
	return hits
}

// TestSearchFindsWhatOneMayRead: an agent's token finds lines where the agent is or was, and
// in open conversations; the operator and observers find all.
func TestSearchFindsWhatOneMayRead(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage", "Echo")
	private := o.create("Atlas", "private", "Nova", "Echo")
	o.send("Atlas", private, "the parser is red")
	o.Post("Echo", &envelope.Envelope{Type: envelope.Leave, Conversation: private})
	o.send("Nova", private, "the parser is green")
	open := o.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "all", Open: true}).Conversation.ID
	o.send("Atlas", open, "the parser is for all")
	for name, test := range map[string]struct {
		token string
		want  int
	}{
		"who is in it": {o.own("Nova"), 3}, "who was in it": {o.own("Echo"), 3}, "who was not": {o.own("Sage"), 1}, "an observer": {o.token("").Text, 3},
	} {
		if hits := o.hits(test.token, "q=parser"); len(hits.Hits) != test.want {
			t.Errorf("%s: got %+v, want %d hits", name, hits, test.want)
		}
	}
	for _, query := range []string{"q=parser&in=" + private, "q=" + url.QueryEscape("parser in:"+private), "q=" + url.QueryEscape("parser -in:"+private)} {
		if resp, data := o.with(o.own("Sage"), "GET /v1/search?"+query, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("search %s as a stranger: got %s %s, want 403", query, resp.Status, data)
		}
	}
	page := o.hits(o.own("Nova"), "q=parser&limit=2")
	rest := o.hits(o.own("Nova"), "q=parser&limit=2&cursor="+page.Next)
	if len(page.Hits) != 2 || page.More != 1 || len(rest.Hits) != 1 || rest.Next != "" {
		t.Errorf("pages: got %+v and %+v, want 2 hits and 1 more", page, rest)
	}
	for _, bad := range []string{"", "q=", "q=x&cursor=y", "q=x&since=y", "q=has:nothing", "p=x"} {
		if resp, data := o.with(o.own("Nova"), "GET /v1/search?"+bad, ""); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("search %q: got %s %s, want 422", bad, resp.Status, data)
		}
	}
}

// TestTalk: who has written to whom, and to an agent only what concerns it.
func TestTalk(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	id := o.create("Atlas", "three", "Nova", "Sage")
	o.send("Atlas", id, "to both")
	o.send("Nova", id, "to both")
	host := o.Home().Host.Name
	for token, want := range map[string][]string{
		o.token("").Text: {"Nova Atlas 1", "Nova Sage 1", "Atlas Nova 1", "Atlas Sage 1"},
		o.own("Sage"):    {"Nova Sage 1", "Atlas Sage 1"},
	} {
		var talk api.Talk
		resp, data := o.with(token, "GET /v1/talk?since=1h", "")
		if err := json.Unmarshal(data, &talk); err != nil || resp.StatusCode != http.StatusOK || talk.Since%3_600_000 != 0 || talk.Since == 0 {
			t.Fatalf("talk: got %s %s, %v", resp.Status, data, err)
		}
		got := make(map[string]bool)
		for _, p := range talk.Pairs {
			got[name(p.From, host)+" "+name(p.To, host)+" "+string(rune('0'+p.Count))] = true
		}
		if len(got) != len(want) {
			t.Errorf("talk: got %v, want %v", got, want)
		}
		for _, pair := range want {
			if !got[pair] {
				t.Errorf("talk: got %v, want %s", got, pair)
			}
		}
	}
}

// TestTalkSinceWhen: a time that is none is told, and nothing of a command that has to do with it.
func TestTalkSinceWhen(t *testing.T) {
	o := newOutside(t, "")
	resp, data := o.with(o.token("").Text, "GET /v1/talk?since=yesterday", "")
	var problem api.Problem
	if err := json.Unmarshal([]byte(data), &problem); err != nil || problem.Code != api.BadRequest || problem.Next != "" || !strings.Contains(problem.Detail, "yesterday") {
		t.Errorf("talk: got %s %s, %v, want a refusal that names the time", resp.Status, data, err)
	}
}

func name(address, host string) string { return address[:len(address)-len(host)-1] }

// TestSQLIsForTheUserOfTheHost: no token opens it, only the local socket.
func TestSQLIsForTheUserOfTheHost(t *testing.T) {
	o := newOutside(t, "", "Atlas")
	const ask = `{"query":"SELECT count(*) FROM agents"}`
	for _, token := range []string{"", o.own("Atlas"), o.token("").Text} {
		if resp, data := o.with(token, "POST /v1/sql", ask); resp.StatusCode < 400 {
			t.Errorf("SQL over TCP with %q: got %s %s, want a refusal", token, resp.Status, data)
		}
	}
	rows, err := o.As("").SQL(t.Context(), api.SQL{Query: "SELECT count(*) FROM agents"})
	if err != nil || len(rows.Rows) != 1 {
		t.Errorf("SQL on the socket: got %+v, %v, want a row", rows, err)
	}
	if _, err := o.As("Atlas").SQL(t.Context(), api.SQL{Query: "SELECT 1"}); err != nil {
		t.Errorf("SQL on the socket as an agent: got %v, want none", err)
	}
}
