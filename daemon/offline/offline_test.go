package offline_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
)

// filesAs opens the files of a host as one of its agents.
func filesAs(t *testing.T, h *daemontest.Host, agent string) *offline.Files {
	t.Helper()
	f, err := offline.Open(h.Home(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// told is what somebody is told: a value as JSON, or the code and the text of an error.
func told[T any](value T, err error) string {
	if err != nil {
		var e *api.Error
		if !errors.As(err, &e) {
			return err.Error()
		}
		return fmt.Sprintf("%s: %s; next: %s", e.Code, e.Message, e.Next)
	}
	data, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// still leaves out of a list what only a daemon can know: who is there, and how busy.
func still(a api.Agents, err error) (api.Agents, error) {
	for i := range a.Agents {
		agent := &a.Agents[i]
		agent.Status, agent.Note, agent.Since, agent.LastSeen, agent.Open, agent.Listening, agent.Wake = card.Offline, "", 0, 0, 0, false, ""
	}
	slices.SortFunc(a.Agents, func(x, y api.Agent) int { return cmp.Compare(x.Name, y.Name) })
	return a, err
}

func stillFound(f api.Found, err error) (api.Found, error) {
	if f.Agent != nil {
		list, _ := still(api.Agents{Agents: []api.Agent{*f.Agent}}, nil)
		f.Agent = &list.Agents[0]
	}
	return f, err
}

// TestFilesSayWhatTheDaemonSays: the same questions have the same answers with a daemon
// and without one.
func TestFilesSayWhatTheDaemonSays(t *testing.T) {
	ctx := context.Background()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	text := func(s string) *string { return &s }
	if _, err := h.As("").Register(ctx, api.Register{Name: "Nova", Capabilities: &[]string{"go", "review"}, Description: text("Reads Go"), Platform: text("claude")}); err != nil {
		t.Fatal(err)
	}
	say := func(agent string, e envelope.Envelope) api.Posted { return h.Post(agent, &e) }
	one := say("Nova", envelope.Envelope{Type: envelope.Create, Topic: "one", To: []string{"Atlas", "Sage"}, TurnLimit: 500}).Conversation
	two := say("Sage", envelope.Envelope{Type: envelope.Create, Topic: "two", To: []string{"Atlas"}, Open: true}).Conversation
	say("Nova", envelope.Envelope{Conversation: one.ID, Content: strings.Repeat("é ", 101)})
	for i := range 120 {
		say("Sage", envelope.Envelope{Conversation: one.ID, Content: fmt.Sprint("number ", i)})
	}
	late := say("Nova", envelope.Envelope{Conversation: one.ID, Content: "late", After: envelope.Int(1)}).Message
	say("Nova", envelope.Envelope{Conversation: one.ID, Data: json.RawMessage(`{"n":1}`)})
	say("Sage", envelope.Envelope{Type: envelope.Leave, Conversation: one.ID})
	say("Sage", envelope.Envelope{Type: envelope.Close, Conversation: two.ID, Reason: "done"})
	daemontest.AppendTo(t, h.Home().LogPath(one.ID), "noise\n")
	for i := range 22 {
		h.Drop("Atlas", fmt.Sprintf("bad%02d.json", i), `{"to":"Nobody","content":"hi"}`)
	}
	atlas := h.As("Atlas")
	daemontest.Eventually(t, func() (bool, string) {
		drops, err := h.Box("Atlas").Drops()
		return err == nil && len(drops) == 0, fmt.Sprintf("%d drops wait, %v", len(drops), err)
	})
	if _, err := atlas.Inbox(ctx, 1); err != nil { // which waits until all is delivered
		t.Fatal(err)
	}
	for name, word := range map[string]string{"Muse": standing.Muted, "Bard": standing.Blocked} {
		h.Register(name)
		if _, err := h.As("").SetStanding(ctx, name, api.Standing{Standing: word, Reason: "why"}); err != nil {
			t.Fatal(err)
		}
	}
	files := filesAs(t, h, "Atlas")

	same := func(what, online, files string) {
		t.Helper()
		if online != files {
			t.Errorf("%s: the files say\n%s\nwant what the daemon says\n%s", what, files, online)
		}
	}
	for _, limit := range []int{0, 2, 1000} {
		what := fmt.Sprint(" of ", limit)
		same("inbox"+what, told(atlas.Inbox(ctx, limit)), told(files.Inbox(ctx, limit)))
		for _, refs := range [][]string{nil, {one.Ref}, {late.Ref}, {two.ID, one.Ref, late.Ref}, {one.Ref + ".999"}} {
			ask := api.Read{Refs: refs, Limit: limit}
			same(fmt.Sprint("read ", refs, what), told(atlas.Read(ctx, ask)), told(files.Read(ctx, ask)))
		}
		for _, q := range []show.Query{{}, {Status: "closed"}, {Status: "active"}, {With: "sage"}, {With: "NOVA"}, {With: h.Home().Address("Sage").String()}, {With: "Sage@moon"}} {
			same(fmt.Sprint("conversations ", q, what), told(atlas.Conversations(ctx, q.Status, q.With, limit)),
				told(files.Conversations(show.Query{Status: q.Status, With: q.With, Limit: limit})))
		}
		for _, words := range []string{"", "muse", "bard", "reads go", "claude nova", "cobol"} {
			same("agents "+words+what, told(still(atlas.Agents(ctx, api.AgentQuery{Text: words, Limit: limit}))), told(still(files.Agents(api.AgentQuery{Text: words, Limit: limit}))))
		}
		same("agents who review"+what, told(still(atlas.Agents(ctx, api.AgentQuery{Capabilities: []string{"REVIEW", "go"}, Limit: limit}))), told(still(files.Agents(api.AgentQuery{Capabilities: []string{"REVIEW", "go"}, Limit: limit}))))
	}
	h.Register(one.Ref) // an agent that is named like a conversation
	for _, ref := range []string{"Nova", one.Ref, one.Ref + "@" + h.Home().Host.Name, two.ID, late.Ref} {
		same("find "+ref, told(stillFound(atlas.Find(ctx, ref))), told(stillFound(files.Find(ctx, ref))))
	}
	id, err := files.Resolve(one.Ref)
	if err != nil {
		t.Fatal(err)
	}
	found, err := files.Conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	read := func(r io.ReadCloser, err error) (string, error) {
		if err != nil {
			return "", err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		return string(data), err
	}
	for _, s := range []client.Span{{}, {After: 120}, {After: 999}, {Before: 3}, {Last: 2}, {Last: 2, Before: 9}, {Last: 999, Limit: 3}, {After: 3, Before: 9, Limit: 2}} {
		same(fmt.Sprint("transcript ", s), told(read(atlas.Transcript(ctx, one.ID, s))), told(read(files.Lines(found, s))))
	}
}

func stillRegistered(r api.Registered, err error) (api.Registered, error) {
	list, _ := still(api.Agents{Agents: []api.Agent{r.Agent}}, nil)
	r.Agent = list.Agents[0]
	return r, err
}

// TestRegisteredWithoutADaemon: the card is the one that the daemon would have made.
func TestRegisteredWithoutADaemon(t *testing.T) {
	h := daemontest.New(t, "Atlas")
	text := "Reads Go"
	asks := []api.Register{
		{Name: "X", Capabilities: &[]string{"go"}, Description: &text},
		{Name: "x", Platform: &text},
		{Name: "X", Capabilities: &[]string{}},
		{Name: "X", Capabilities: &[]string{"two words"}},
	}
	var want []string
	for _, ask := range asks {
		want = append(want, told(stillRegistered(h.As("").Register(context.Background(), ask))))
	}
	h.Stop()
	was := h.Home().AgentDir("X")
	before, err := card.Read(was)
	if err == nil {
		err = os.RemoveAll(was)
	}
	if err != nil {
		t.Fatal(err)
	}
	files := filesAs(t, h, "Atlas")
	if _, err := files.Register(asks[3]); err == nil {
		t.Error("a capability of two words: got no error")
	}
	if _, err := os.Stat(was); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of who was refused, which would be an agent: got %v, want none", err)
	}
	for i, ask := range asks {
		got := told(stillRegistered(files.Register(ask)))
		now, err := card.Read(was)
		if err != nil {
			t.Fatal(err)
		}
		if got = strings.ReplaceAll(got, now.ID, before.ID); got != want[i] {
			t.Errorf("%s: got\n%s\nwant\n%s", daemontest.JSON(ask), got, want[i])
		}
	}
}
