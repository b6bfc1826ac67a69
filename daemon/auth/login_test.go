package auth_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/auth"
)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.at }

func (c *clock) keeper(t *testing.T) *auth.Keeper {
	t.Helper()
	k, err := auth.Open(newHome(t), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signIn(t *testing.T, k *auth.Keeper, role auth.Role) (string, auth.Token) {
	t.Helper()
	code, _ := k.NewLogin(role)
	text, token, err := k.SignIn(code)
	if err != nil {
		t.Fatal(err)
	}
	return text, token
}

func TestSignInOnce(t *testing.T) {
	c := newClock()
	k := c.keeper(t)
	code, ends := k.NewLogin(auth.Operator)
	if want := c.at.Add(5 * time.Minute); !ends.Equal(want) {
		t.Errorf("the code ends: got %s, want %s", ends, want)
	}
	text, token, err := k.SignIn(code)
	if err != nil || token.Role != auth.Operator || token.ExpiresAt != c.at.Add(30*24*time.Hour).UnixMilli() {
		t.Fatalf("got %+v, %v, want an operator's token for 30 days", token, err)
	}
	if g, err := k.Check(text); err != nil || g.Role != auth.Operator || g.Agent != "" || g.ID != token.ID {
		t.Errorf("Check: got %+v, %v, want the operator", g, err)
	}
	if _, _, err := k.SignIn(code); !errors.Is(err, auth.ErrLoginUsed) {
		t.Errorf("the same code again: got %v, want ErrLoginUsed", err)
	}
	if _, _, err := k.SignIn(text); !errors.Is(err, auth.ErrBadLogin) {
		t.Errorf("a token for a code: got %v, want ErrBadLogin", err)
	}
	watch, _ := signIn(t, k, auth.Observer)
	if g, err := k.Check(watch); err != nil || g.Role != auth.Observer {
		t.Errorf("Check: got %+v, %v, want an observer", g, err)
	}
}

func TestLoginsExpire(t *testing.T) {
	c := newClock()
	k := c.keeper(t)
	code, _ := k.NewLogin(auth.Observer)
	c.at = c.at.Add(5 * time.Minute)
	if _, _, err := k.SignIn(code); !errors.Is(err, auth.ErrBadLogin) {
		t.Errorf("after five minutes: got %v, want ErrBadLogin", err)
	}
	first, _ := k.NewLogin(auth.Observer)
	for range 32 {
		k.NewLogin(auth.Observer)
	}
	if _, _, err := k.SignIn(first); !errors.Is(err, auth.ErrBadLogin) {
		t.Errorf("33 codes later: got %v, want the first forgotten", err)
	}
}

func TestSessionsExpire(t *testing.T) {
	c := newClock()
	home := newHome(t)
	k, err := auth.Open(home, c.now)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := signIn(t, k, auth.Observer)
	data, err := os.ReadFile(home.TokensPath())
	if err != nil || strings.Contains(string(data), text[len(text)-20:]) {
		t.Errorf("tokens.json: got %s, %v, want no secret in it", data, err)
	}
	c.at = c.at.Add(30*24*time.Hour - time.Millisecond)
	again, err := auth.Open(home, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Check(text); err != nil {
		t.Errorf("after a start, on the last day: got %v, want it good", err)
	}
	c.at = c.at.Add(time.Millisecond)
	wantUnknown(t, "after 30 days", again, text)
	if list := again.List(nil); len(list) != 0 {
		t.Errorf("List: got %+v, want it gone", list)
	}
	signIn(t, again, auth.Observer)
	if list := again.List(nil); len(list) != 1 {
		t.Errorf("List: got %+v, want the new one alone", list)
	}
}

// TestSessionsAreBounded: who signs in again and again ends the oldest session, and
// tokens that were made with a purpose stay.
func TestSessionsAreBounded(t *testing.T) {
	c := newClock()
	k := c.keeper(t)
	kept, _, err := k.Create("", "dashboard")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := signIn(t, k, auth.Observer)
	for range 99 {
		c.at = c.at.Add(time.Second)
		signIn(t, k, auth.Observer)
	}
	if _, err := k.Check(first); err != nil {
		t.Errorf("of 100: got %v, want the first good", err)
	}
	signIn(t, k, auth.Observer)
	wantUnknown(t, "of 101 the first", k, first)
	wantGrant(t, "a token with a purpose", k, kept, "")
	if list := k.List(nil); len(list) != 101 {
		t.Errorf("List: got %d tokens, want 100 sessions and one more", len(list))
	}
}

func TestGuessing(t *testing.T) {
	c := newClock()
	k := c.keeper(t)
	code, _ := k.NewLogin(auth.Observer)
	guess := func() error {
		_, _, err := k.SignIn("guess")
		return err
	}
	for range 30 {
		if err := guess(); !errors.Is(err, auth.ErrBadLogin) {
			t.Fatalf("got %v, want ErrBadLogin", err)
		}
	}
	if err := guess(); !errors.Is(err, auth.ErrGuessing) {
		t.Errorf("the 31st: got %v, want ErrGuessing", err)
	}
	if _, _, err := k.SignIn(code); err != nil {
		t.Errorf("the right one: got %v, want it let in whoever guesses", err)
	}
	c.at = c.at.Add(time.Minute)
	if err := guess(); !errors.Is(err, auth.ErrBadLogin) {
		t.Errorf("a minute later: got %v, want ErrBadLogin", err)
	}
}
