package roster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

func newRoster(t *testing.T, names ...string) (*roster.Roster, *maildir.Home) {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	r := roster.New(home)
	for _, name := range names {
		register(t, r, api.Register{Name: name})
	}
	return r, home
}

func register(t *testing.T, r *roster.Roster, ask api.Register) (card.Card, bool) {
	t.Helper()
	c, created, err := r.Register(ask)
	if err != nil {
		t.Fatalf("Register(%q): %v", ask.Name, err)
	}
	return c, created
}

func names(cards []card.Card) []string {
	list := []string{}
	for _, c := range cards {
		list = append(list, c.Name)
	}
	return list
}

func wantNames(t *testing.T, what string, r *roster.Roster, want ...string) {
	t.Helper()
	if got := names(r.All()); !slices.Equal(got, want) || r.Len() != len(want) {
		t.Errorf("%s: got %q and Len %d, want %q", what, got, r.Len(), want)
	}
}

func wantCode(t *testing.T, what string, err error, want api.Code) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("%s: got %v, want code %s", what, err, want)
	}
}

func refresh(t *testing.T, r *roster.Roster, name string) {
	t.Helper()
	if err := r.Refresh(name); err != nil {
		t.Errorf("Refresh(%q): %v", name, err)
	}
}

// grownUp makes a folder look as if it was not made just now.
func grownUp(t *testing.T, dir string) {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, past, past); err != nil {
		t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestRegister(t *testing.T) {
	r, home := newRoster(t)
	first, created := register(t, r, api.Register{Name: "Nova", Description: ptr("writes"), Capabilities: ptr([]string{"go", "docs"})})
	if !created || first.ID == "" || first.Name != "Nova" {
		t.Errorf("Register: got %+v, created %v, want a new agent with an id", first, created)
	}
	if _, err := os.Stat(filepath.Join(home.Dir, "agents", "nova", mailbox.OutboxNew)); err != nil {
		t.Errorf("folder: %v, want it named in lower case and whole", err)
	}
	second, created := register(t, r, api.Register{Name: "NOVA", Platform: ptr("shell"), Capabilities: ptr([]string{})})
	want := first
	want.Platform, want.Capabilities = "shell", []string{}
	if diff := cmp.Diff(want, second); diff != "" || created {
		t.Errorf("second Register, created %v (-want +got):\n%s", created, diff)
	}
	wantNames(t, "after both", r, "Nova")
	onDisk, err := card.Read(home.AgentDir("nova"))
	if diff := cmp.Diff(want, onDisk); diff != "" || err != nil {
		t.Errorf("card on disk, %v (-want +got):\n%s", err, diff)
	}
}

func TestRegisterRefuses(t *testing.T) {
	r, home := newRoster(t)
	for _, ask := range []api.Register{
		{Name: ""}, {Name: "9lives"}, {Name: "../up"}, {Name: "a/b"}, {Name: "Atlas@nyc"}, {Name: strings.Repeat("a", 33)}, {Name: "Ünal"},
		{Name: "Atlas", Capabilities: ptr([]string{"two words"})},
		{Name: "Atlas", Description: ptr(strings.Repeat("x", 2001))},
		{Name: "Atlas", Platform: ptr("two\nlines")},
	} {
		_, _, err := r.Register(ask)
		wantCode(t, fmt.Sprintf("Register(%+v)", ask), err, api.BadRequest)
	}
	wantNames(t, "after refusals", r)
	if _, err := os.Stat(home.AgentDir("Atlas")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of Atlas, which would be an agent: got %v, want none", err)
	}
}

// TestUnknownFieldsStay: what other programs write into a card survives.
func TestUnknownFieldsStay(t *testing.T) {
	r, home := newRoster(t, "Nova")
	path := filepath.Join(home.AgentDir("Nova"), card.File)
	if err := os.WriteFile(path, []byte(`{"name":"Nova","color":"blue","description":"by hand"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, created := register(t, r, api.Register{Name: "Nova", Platform: ptr("shell")})
	if created || c.ID == "" || c.Description != "by hand" || len(c.Unknown) != 1 || c.Unknown[0].Name != "color" {
		t.Errorf("got %+v, created %v, want description and color kept, and an id", c, created)
	}
}

func TestRegisterAtOnce(t *testing.T) {
	r, _ := newRoster(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	ids, made := make(map[string]bool), 0
	for range 8 {
		all.Go(func() {
			c, created, err := r.Register(api.Register{Name: "Nova"})
			if err != nil {
				t.Errorf("Register: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[c.ID] = true
			if created {
				made++
			}
		})
	}
	all.Wait()
	if len(ids) != 1 || made != 1 {
		t.Errorf("got %d ids and %d made, want one of each", len(ids), made)
	}
}

func TestResolve(t *testing.T) {
	r, home := newRoster(t, "Atlas", "Nova", "Novak")
	host := home.Host.Name
	for text, want := range map[string]string{"atlas": "Atlas", "NOVA": "Nova", "Nova@" + host: "Nova"} {
		if who, err := r.Resolve(text); err != nil || who.Card.Name != want || who.Far != nil {
			t.Errorf("Resolve(%q): got %+v, %v, want %q", text, who, err, want)
		}
	}
	for text, want := range map[string]api.Code{
		"Nobody": api.AgentNotFound, "Nova@elsewhere": api.HostNotFound, "no/va": api.BadReference, "": api.BadReference, "Nova@": api.BadReference,
	} {
		_, err := r.Resolve(text)
		wantCode(t, fmt.Sprintf("Resolve(%q)", text), err, want)
	}
	_, err := r.Resolve("Nowa")
	var e *api.Error
	if !errors.As(err, &e) || !slices.Equal(e.Near, []string{"Nova"}) || e.Next == "" {
		t.Errorf("Resolve(Nowa): got %+v, want Nova to be near and a command to run", e)
	}
}

func TestUnregisterAndBack(t *testing.T) {
	r, home := newRoster(t, "Atlas", "Nova")
	before, _ := r.Get("nova")
	if c, err := r.Unregister("nova"); err != nil || !c.Unregistered {
		t.Fatalf("Unregister: got %+v, %v, want it unregistered", c, err)
	}
	wantNames(t, "after that", r, "Atlas")
	_, err := r.Resolve("Nova")
	wantCode(t, "Resolve of who has unregistered", err, api.AgentNotFound)
	_, err = r.Unregister("Nova")
	wantCode(t, "Unregister again", err, api.AgentNotFound)
	if _, err := r.Resolve("Nov"); err == nil || strings.Contains(api.Errorf(api.Internal, "%w", err).Message, "Nova") {
		t.Errorf("Resolve(Nov): got %v, want nobody near", err)
	}
	if c, ok := roster.New(home).Get("Nova"); !ok || !c.Unregistered {
		t.Errorf("after a restart: got %+v, %v, want it unregistered", c, ok)
	}
	after, created := register(t, r, api.Register{Name: "Nova"})
	if created || after.ID != before.ID || after.Unregistered {
		t.Errorf("back: got %+v, created %v, want the same agent as before", after, created)
	}
	wantNames(t, "at the end", r, "Atlas", "Nova")
}

// TestUnregisterKeepsTheCard: what somebody has just written into the card by hand is
// not lost.
func TestUnregisterKeepsTheCard(t *testing.T) {
	r, home := newRoster(t, "Nova")
	dir := home.AgentDir("Nova")
	c, err := card.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Description = "by hand"
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Unregister("Nova"); err != nil {
		t.Fatal(err)
	}
	if c, err = card.Read(dir); err != nil || c.Description != "by hand" || !c.Unregistered {
		t.Errorf("card: got %+v, %v, want it unregistered with the description", c, err)
	}
}

func TestFolderMadeByHand(t *testing.T) {
	r, home := newRoster(t)
	dir := home.AgentDir("sage")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh("sage"); !errors.Is(err, roster.ErrYoung) {
		t.Errorf("Refresh at once: got %v, want %v", err, roster.ErrYoung)
	}
	wantNames(t, "while it is young", r)
	grownUp(t, dir)
	refresh(t, r, "sage")
	wantNames(t, "a second later", r, "sage")
	c, err := card.Read(dir)
	if err != nil || c.ID == "" {
		t.Errorf("card: got %+v, %v, want one with an id", c, err)
	}
	if _, err := os.Stat(filepath.Join(dir, mailbox.InboxNew)); err != nil {
		t.Errorf("folders: %v, want them made", err)
	}
}

// TestCardInTheMaking: a card that is being written is looked at again, and one that stays
// bad is told of.
func TestCardInTheMaking(t *testing.T) {
	r, home := newRoster(t)
	dir := home.AgentDir("sage")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, card.File)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, half := range []string{"", `{"name":"Sage"`} {
		write(half)
		if err := r.Refresh("sage"); !errors.Is(err, roster.ErrYoung) {
			t.Errorf("Refresh with the card %q: got %v, want %v", half, err, roster.ErrYoung)
		}
	}
	grownUp(t, path)
	if err := r.Refresh("sage"); err == nil || errors.Is(err, roster.ErrYoung) {
		t.Errorf("Refresh with half a card that is old: got %v, want what is wrong with it", err)
	}
	write(`{"name":"Sage","description":"knows"}`)
	refresh(t, r, "sage")
	if c, ok := r.Get("sage"); !ok || c.Name != "Sage" || c.Description != "knows" || c.ID == "" {
		t.Errorf("got %+v, want the card with an id", c)
	}
}

// TestWhoIsAskedForIsRead: an agent may be named before the watcher tells of it.
func TestWhoIsAskedForIsRead(t *testing.T) {
	r, home := newRoster(t)
	if err := os.Mkdir(home.AgentDir("sage"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home.AgentDir("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, ok := r.Get("Sage"); !ok || c.Name != "sage" {
		t.Errorf("Get(Sage): got %+v, %v, want the agent", c, ok)
	}
	for _, name := range []string{"file", "nobody", "..", "", "a/b"} {
		if c, ok := r.Get(name); ok {
			t.Errorf("Get(%q): got %+v, want nobody", name, c)
		}
	}
}

func TestRefresh(t *testing.T) {
	r, home := newRoster(t, "Atlas", "Nova")
	dir := home.AgentDir("nova")
	write := func(text string, age time.Duration) {
		t.Helper()
		path := filepath.Join(dir, card.File)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"id":"x","name":"NOVA","description":"changed"}`, time.Minute)
	refresh(t, r, "nova")
	if c, _ := r.Get("nova"); c.Description != "changed" || c.Name != "NOVA" {
		t.Errorf("after a change: got %+v, want the new card", c)
	}
	write(`{"id":"x","name":"NO`, 2*time.Minute)
	if err := r.Refresh("nova"); err == nil {
		t.Error("Refresh of a torn card: got no error, want one")
	}
	write(`{"id":"x","name":"Rune"}`, 3*time.Minute)
	if err := r.Refresh("nova"); err == nil {
		t.Error("Refresh of another's card: got no error, want one")
	}
	if c, ok := r.Get("nova"); !ok || c.Description != "changed" {
		t.Errorf("after bad cards: got %+v, %v, want it as known before", c, ok)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	refresh(t, r, "nova")
	wantNames(t, "after the folder is gone", r, "Atlas")
	refresh(t, r, "nobody")
}

// TestRefreshOfKnownChangesNothing: a card that is known is not written again.
func TestRefreshOfKnownChangesNothing(t *testing.T) {
	r, home := newRoster(t, "Nova")
	path := filepath.Join(home.AgentDir("nova"), card.File)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	refresh(t, r, "nova")
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("card: got another file, %v, want the same", err)
	}
}

func TestCardIsPlainJSON(t *testing.T) {
	_, home := newRoster(t, "Nova")
	data, err := os.ReadFile(filepath.Join(home.AgentDir("Nova"), card.File))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil || fields["name"] != "Nova" {
		t.Errorf("card: got %s, %v, want JSON with the name", data, err)
	}
}
