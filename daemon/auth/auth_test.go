package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/auth"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/mailbox"
)

func newHome(t *testing.T, agents ...string) *maildir.Home {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range agents {
		if _, err := mailbox.Open(home.AgentDir(name)); err != nil {
			t.Fatal(err)
		}
	}
	return home
}

func open(t *testing.T, home *maildir.Home) *auth.Keeper {
	t.Helper()
	k, err := auth.Open(home, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantGrant(t *testing.T, what string, k *auth.Keeper, token, agent string) {
	t.Helper()
	if g, err := k.Check(token); err != nil || g.Agent != agent {
		t.Errorf("%s: got %+v, %v, want agent %q", what, g, err, agent)
	}
}

func wantUnknown(t *testing.T, what string, k *auth.Keeper, token string) {
	t.Helper()
	if g, err := k.Check(token); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("%s: got %+v, %v, want ErrUnknown", what, g, err)
	}
}

func TestOwnToken(t *testing.T) {
	home := newHome(t, "atlas", "nova")
	k := open(t, home)
	token, err := k.Own("Atlas")
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.Own("atlas")
	if err != nil || again != token {
		t.Errorf("asked again: got %q, %v, want %q", again, err, token)
	}
	path := filepath.Join(home.AgentDir("Atlas"), "token")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: got %v, %v, want mode 0600", info.Mode(), err)
	}
	wantGrant(t, "the token", k, token, "atlas")
	wantGrant(t, "the token, after a start", open(t, home), token, "atlas")
	wantUnknown(t, "of another agent", k, strings.Replace(token, "atlas", "nova", 1))
	wantUnknown(t, "one letter less", k, token[:len(token)-1])
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	wantUnknown(t, "in a file that others can read", k, token)
	if err := k.Revoke("atlas"); err != nil {
		t.Fatal(err)
	}
	wantUnknown(t, "revoked", k, token)
	fresh, err := k.Own("Atlas")
	if err != nil || fresh == token {
		t.Errorf("after that: got %q, %v, want another one", fresh, err)
	}
	if err := os.Symlink(path, filepath.Join(home.AgentDir("nova"), "token")); err != nil {
		t.Fatal(err)
	}
	wantUnknown(t, "through a link", k, strings.Replace(fresh, "atlas", "nova", 1))
}

func TestMadeTokens(t *testing.T) {
	home := newHome(t, "atlas")
	k := open(t, home)
	watch, watching, err := k.Create("", "the wall")
	if err != nil {
		t.Fatal(err)
	}
	speak, _, err := k.Create("atlas", "")
	if err != nil {
		t.Fatal(err)
	}
	for what, keeper := range map[string]*auth.Keeper{"at once": k, "after a start": open(t, home)} {
		wantGrant(t, "an observer's, "+what, keeper, watch, "")
		wantGrant(t, "an agent's, "+what, keeper, speak, "atlas")
		wantUnknown(t, "with the other's id, "+what, keeper, strings.Replace(watch, watching.ID, "x", 1))
	}
	data, err := os.ReadFile(home.TokensPath())
	if err != nil || strings.Contains(string(data), watch[len(watch)-52:]) {
		t.Errorf("the file has a secret, or %v", err)
	}
	if info, err := os.Stat(home.TokensPath()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: got %v, %v, want mode 0600", info, err)
	}
	if _, err := k.Own("atlas"); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, token := range k.List([]string{"atlas", "nova"}) {
		list = append(list, token.Agent+"/"+token.Label+"/"+token.Hash)
	}
	slices.Sort(list)
	if want := []string{"/the wall/", "atlas//", "atlas/its own/"}; !slices.Equal(list, want) {
		t.Errorf("List: got %q, want %q", list, want)
	}
	if err := k.Revoke(watching.ID); err != nil {
		t.Fatal(err)
	}
	wantUnknown(t, "revoked", k, watch)
	wantUnknown(t, "revoked, after a start", open(t, home), watch)
	wantGrant(t, "the other one", k, speak, "atlas")
	for _, id := range []string{watching.ID, "nova", "../atlas", ""} {
		if err := k.Revoke(id); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("Revoke(%q): got %v, want ErrNotFound", id, err)
		}
	}
}

func TestWhatIsNoToken(t *testing.T) {
	k := open(t, newHome(t, "atlas"))
	for _, token := range []string{
		"", "duo", "duo_", "duo_a", "duo_a_", "duo_a_atlas", "duo_a_atlas_", "duo_t__x", "duo_x_atlas_y", "duo_a_../x_y",
		"duo_a_a/b_y", "Bearer duo_a_atlas_x", strings.Repeat("duo_a_", 10_000), "duo_a_atlas_\x00",
	} {
		wantUnknown(t, "no token", k, token)
	}
}

// TestBrokenList: nobody gets in by it, nothing is written over it, and agents' own
// tokens are as good as before.
func TestBrokenList(t *testing.T) {
	home := newHome(t, "atlas")
	k := open(t, home)
	token, _, err := k.Create("", "")
	if err != nil {
		t.Fatal(err)
	}
	own, err := k.Own("atlas")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home.TokensPath(), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err = auth.Open(home, time.Now)
	if err == nil {
		t.Error("a broken list was read")
	}
	wantUnknown(t, "of a broken list", k, token)
	wantGrant(t, "an own one", k, own, "atlas")
	if _, _, err := k.Create("", ""); err == nil {
		t.Error("a broken list was written over")
	}
	if data, _ := os.ReadFile(home.TokensPath()); string(data) != "[{" {
		t.Errorf("the list: got %q", data)
	}
}
