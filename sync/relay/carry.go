package relay

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"time"

	"github.com/claude-duo/duo/sync/link"
	"golang.org/x/time/rate"
)

const (
	tokenTime    = 10 * time.Second // in which both have to come
	inviteTime   = 2 * time.Second  // to tell the other
	linger       = 2 * time.Second  // for what one side has said when the other has ended
	spliceBuffer = 32 << 10         // for each direction
	askBurst     = 20
	changeBurst  = 3
	tokenBytes   = 32
)

var (
	tokenText = base64.RawURLEncoding.Strict()
	tokenLine = tokenText.EncodedLen(tokenBytes) + 1
)

const okLine = "ok\n"

// token lets one host into one splice, once.
type token [tokenBytes]byte

func newToken() (t token) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

func (t token) String() string { return tokenText.EncodeToString(t[:]) }

func parseToken(text string) (t token, err error) {
	data, err := tokenText.DecodeString(text)
	if err != nil || len(data) != tokenBytes || len(text) != tokenLine-1 { // a decoder passes over line ends
		return token{}, errors.New("not a token")
	}
	return token(data), nil
}

// account is what one host uses of this one.
type account struct {
	asks    *rate.Limiter
	changes *rate.Limiter // of where to seal for it
	bytes   *rate.Limiter
	joining int
	splices int
}

// splice is one connection of two hosts.
type splice struct {
	asker string
	ends  time.Time // when both have to be here
	met   chan struct{}

	// Set when both are here.
	ctx    context.Context
	cancel context.CancelFunc
	idle   *time.Timer
}

// half is one side of a splice.
type half struct {
	*splice
	host  string
	other *half
	conn  *tls.Conn     // nil until it is here
	last  bool          // it has come last
	ended chan struct{} // closed when it has said all
}

// tunnelAsk is the header of a tunnel.
type tunnelAsk struct {
	Ask uint64 `json:"ask"`
	To  string `json:"to"`
}

// spliceAnswer is the header of a splice: an answer, or without Ask an invitation.
type spliceAnswer struct {
	Ask     uint64 `json:"ask,omitempty"`
	Host    string `json:"host,omitempty"`
	Token   string `json:"token,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// takeAsk puts an ask where it is answered. Too many at once are passed over.
func (l *line) takeAsk(f link.Frame) error {
	var ask tunnelAsk
	if err := read(f, &ask); err != nil {
		return err
	}
	if ask.Ask == 0 || !isID(ask.To) {
		return fault(f, errors.New("a number and an id are wanted"))
	}
	select {
	case l.asks <- ask:
	default:
	}
	l.session.Done(f)
	return nil
}

// answerAsks says on the lane of calls what this host has to say there, until the line ends.
func (l *line) answerAsks() {
	for {
		var err error
		select {
		case <-l.ctx.Done():
			return
		case ask := <-l.asks:
			err = l.say(l.ctx, typeSplice, l.answer(ask))
		case lapsed := <-l.lapsed:
			err = l.say(l.ctx, typeUnheld, lapsed)
		}
		if err != nil {
			return // the link has ended
		}
	}
}

func (l *line) answer(ask tunnelAsk) spliceAnswer {
	mine, err := l.relay.arrange(l, ask.To)
	var refused *Refused
	if errors.As(err, &refused) {
		l.relay.o.Log.Info("splice refused", "peer", l.session.Host, "err", err)
		return spliceAnswer{Ask: ask.Ask, Refused: refused.Code}
	}
	return spliceAnswer{Ask: ask.Ask, Host: ask.To, Token: mine.String()}
}

// arrange makes a splice between the peer of a line and another host, invites that one,
// and returns the token of the peer. The error is a *Refused.
func (r *Relay) arrange(from *line, to string) (mine token, err error) {
	asker := from.session.Host
	if asker == to || !r.carries(asker) || !r.carries(to) {
		return token{}, &Refused{CodeUnknown}
	}
	target := r.line(to)
	switch {
	case target == nil:
		return token{}, &Refused{CodeAway}
	case Spliced(from.session.Conn()) || Spliced(target.session.Conn()):
		return token{}, &Refused{CodeLoop}
	}
	mine, theirs, err := r.reserve(asker, to)
	if err != nil {
		return token{}, err
	}
	ctx, cancel := context.WithTimeout(from.ctx, inviteTime)
	defer cancel()
	if err := target.say(ctx, typeSplice, spliceAnswer{Host: asker, Token: theirs.String()}); err != nil {
		r.drop(mine, theirs)
		return token{}, &Refused{CodeAway}
	}
	return mine, nil
}

// reserve makes the two halves of a splice, for hosts that this one carries for.
func (r *Relay) reserve(asker, to string) (mine, theirs token, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.expire(now)
	limits := r.o.Limits
	a, b := r.account(asker), r.account(to)
	if r.asked(asker) >= limits.Asks || a.splices >= limits.Splices || b.splices >= limits.Splices ||
		r.sides >= 2*limits.AllSplices || !a.asks.Allow() {
		return token{}, token{}, &Refused{CodeLimited}
	}
	s := &splice{asker: asker, ends: now.Add(tokenTime), met: make(chan struct{})}
	one, two := &half{splice: s, host: asker, ended: make(chan struct{})}, &half{splice: s, host: to, ended: make(chan struct{})}
	one.other, two.other = two, one
	mine, theirs = newToken(), newToken()
	r.halves[sha256.Sum256(mine[:])], r.halves[sha256.Sum256(theirs[:])] = one, two
	return mine, theirs, nil
}

// account is that of a host that this one carries for.
func (r *Relay) account(host string) *account {
	a := r.accounts[host]
	if a == nil {
		limit := r.o.Limits.Rate
		a = &account{
			asks:    rate.NewLimiter(1, askBurst),
			changes: rate.NewLimiter(rate.Every(time.Minute), changeBurst),
			bytes:   rate.NewLimiter(limit, max(spliceBuffer, int(limit)/8)),
		}
		r.accounts[host] = a
	}
	return a
}

// asked counts the splices that a host has asked for and that are not there yet.
func (r *Relay) asked(host string) int {
	waiting := make(map[*splice]struct{})
	for _, h := range r.halves {
		if h.asker == host {
			waiting[h.splice] = struct{}{}
		}
	}
	return len(waiting)
}

func (r *Relay) expire(now time.Time) {
	for sum, h := range r.halves {
		if !now.Before(h.ends) {
			delete(r.halves, sum)
		}
	}
}

// drop makes tokens good for nothing.
func (r *Relay) drop(tokens ...token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tokens {
		delete(r.halves, sha256.Sum256(t[:]))
	}
}
