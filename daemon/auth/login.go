package auth

import (
	"cmp"
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

// Role is what a person may who has signed in on the page.
type Role string

// The roles of those who sign in.
const (
	Observer Role = "observer" // sees everything, changes nothing
	Operator Role = "operator" // the one whom the host belongs to
)

const (
	session     = "s" // kind of a token
	loginFor    = 5 * time.Minute
	sessionFor  = 30 * 24 * time.Hour
	maxLogins   = 32  // codes that are remembered, used ones too
	maxSessions = 100 // of those who have signed in
	maxGuesses  = 30  // wrong codes in guessTime
	guessTime   = time.Minute
)

var (
	// ErrBadLogin means that a code is wrong, or too old.
	ErrBadLogin = errors.New("the login code is wrong or has expired")
	// ErrLoginUsed means that somebody has signed in with a code before.
	ErrLoginUsed = errors.New("the login code was used before")
	// ErrGuessing means that too many wrong codes came within a minute. A right one is
	// good in spite of them.
	ErrGuessing = errors.New("too many wrong login codes")
)

// login is a code by which a person signs in, once.
type login struct {
	hash string
	role Role
	ends time.Time
	used bool
}

// guesses counts wrong codes.
type guesses struct {
	since time.Time
	count int
}

// NewLogin makes a code with which one person can sign in once, within five minutes. It is
// kept in memory alone, and of many the oldest are forgotten.
func (k *Keeper) NewLogin(role Role) (code string, ends time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	code, ends = random(20), k.now().Add(loginFor)
	k.forgetLogins()
	k.logins = append(k.logins, login{hash: digest(code), role: role, ends: ends})
	return code, ends
}

// forgetLogins removes the codes that are too old, and makes room for one more. The
// caller holds the lock.
func (k *Keeper) forgetLogins() {
	now := k.now()
	k.logins = slices.DeleteFunc(k.logins, func(l login) bool { return !now.Before(l.ends) })
	k.logins = slices.Delete(k.logins, 0, max(0, len(k.logins)-maxLogins+1))
}

// SignIn makes a token of a code, for 30 days. Its text is returned and not kept.
func (k *Keeper) SignIn(code string) (text string, t Token, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.loginOf(code)
	switch {
	case l == nil:
		return "", Token{}, k.wrongCode()
	case l.used:
		return "", Token{}, ErrLoginUsed
	}
	ends := k.now().Add(sessionFor).UnixMilli()
	text, t, err = k.add(session, Token{Role: l.role, ExpiresAt: ends}, k.roomForSession())
	l.used = err == nil // a full disk costs nobody the code
	return text, t, err
}

// loginOf finds a code that is not too old. The caller holds the lock.
func (k *Keeper) loginOf(code string) (found *login) {
	hash, now := []byte(digest(code)), k.now()
	for i := range k.logins {
		l := &k.logins[i]
		if subtle.ConstantTimeCompare([]byte(l.hash), hash) == 1 && now.Before(l.ends) {
			found = l
		}
	}
	return found
}

// wrongCode counts a code that is none. Nobody guesses one of 160 random bits; what is
// bounded is the noise that trying makes. The caller holds the lock.
func (k *Keeper) wrongCode() error {
	if now := k.now(); now.Sub(k.guesses.since) >= guessTime {
		k.guesses = guesses{since: now}
	}
	k.guesses.count++
	if k.guesses.count > maxGuesses {
		return ErrGuessing
	}
	return ErrBadLogin
}

// roomForSession is the list of tokens without those that have expired, and with room
// for one person more. The caller holds the lock.
func (k *Keeper) roomForSession() []Token {
	list := k.unexpired()
	var sessions []Token
	for _, t := range list {
		if t.Role != "" {
			sessions = append(sessions, t)
		}
	}
	if len(sessions) < maxSessions {
		return list
	}
	oldest := slices.MinFunc(sessions, func(a, b Token) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
	return slices.DeleteFunc(list, func(t Token) bool { return t.ID == oldest.ID })
}

// unexpired is a copy of the list of tokens without those that have expired. The caller
// holds the lock.
func (k *Keeper) unexpired() []Token {
	now := k.now().UnixMilli()
	return slices.DeleteFunc(slices.Clone(k.tokens), func(t Token) bool { return t.expired(now) })
}

func (t Token) expired(now int64) bool { return t.ExpiresAt > 0 && now >= t.ExpiresAt }
