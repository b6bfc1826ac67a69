package courier

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"golang.org/x/time/rate"
)

// The codes of refusals that are not those of the API. With the first two the submission
// stays in the spool, and what stands behind it waits too.
const (
	codeLater     = "later"
	codeStorage   = "storage"
	codeForged    = "forged"    // of an agent for whom the peer cannot speak
	codeSignature = "signature" // not signed by the author's host
	codeForm      = "form"      // not in the form in which envelopes are signed
)

// takeSubmit stores what agents of the peer say. When one is put off, those behind it are
// too, until the peer begins again from the front of its spool.
func (l *line) takeSubmit(f link.Frame) error {
	var head struct {
		First bool `json:"first"`
	}
	if err := json.Unmarshal(f.Header, &head); err != nil {
		return link.Fault("a header that cannot be read")
	}
	if head.First {
		l.held = false
	}
	for _, text := range f.Lines {
		if l.held {
			return nil
		}
		if l.rate.Wait(l.ctx) != nil {
			return nil
		}
		it, err := parse(text)
		if err != nil {
			return link.Fault("a submission that cannot be read: %v", err)
		}
		if r, refused := l.receive(it); refused {
			l.held = r.later()
			l.answer(r)
		}
	}
	return nil
}

// guest is a host that submits, on a link or by a relay.
type guest struct {
	courier *Courier
	host    string // its id
	name    string
	ctx     context.Context
	rate    *rate.Limiter // submissions
	notices *rate.Limiter // lines that say why they were refused
}

func (c *Courier) guest(ctx context.Context, host, name string) guest {
	g := guest{courier: c, host: host, name: name, ctx: ctx, rate: rate.NewLimiter(rate.Inf, 1), notices: rate.NewLimiter(1, 100)}
	if limits := c.Home.Config.Limits; limits.Rate > 0 {
		g.rate = rate.NewLimiter(rate.Limit(agentsAtOnce*limits.Rate), max(1, agentsAtOnce*limits.Burst))
	}
	return g
}

// agentsAtOnce is how many agents of one host may say as much as one of this host may.
const agentsAtOnce = 4

// receive stores what an agent of the host says, or says why not.
func (g *guest) receive(it item) (refusal, bool) {
	r, refused := g.judge(it)
	if refused {
		g.courier.Logger.Warn("submission is refused", "peer", g.name, "conv", it.envelope.Conversation, "id", r.ID, "code", r.Code, "err", r.Text)
	}
	return r, refused
}

// later reports whether the submission is to come again.
func (r refusal) later() bool { return r.Code == codeLater || r.Code == codeStorage }

func (g *guest) judge(it item) (refusal, bool) {
	c, e := g.courier, it.envelope
	if code, text := g.vouched(it); code != "" {
		return refusal{ID: e.ID, Code: code, Text: text}, true
	}
	line := *e
	line.Signature = base64.StdEncoding.EncodeToString(it.sig)
	result, state, err := c.Router.Receive(g.ctx, &line)
	if err == nil {
		c.Logger.Info("submission is stored", "peer", g.name, "conv", e.Conversation, "seq", result.Seq, "id", e.ID)
		return refusal{}, false
	}
	r := explain(e.ID, err)
	if g.ctx.Err() != nil {
		r.Code = codeLater
	}
	if !answerable(r, e, state) || !g.notices.AllowN(c.Now(), 1) {
		return r, true
	}
	return g.answerInLog(e, state, r)
}

// vouched reports what is wrong with a submission, apart from what it says: it is signed
// by the host, for an agent of it, in a conversation where that name means this host.
func (g *guest) vouched(it item) (code, text string) {
	c, e := g.courier, it.envelope
	p, known := c.Book.ByID(g.host)
	signed := e.Signed()
	switch {
	case it.bad != nil:
		return codeForm, router.OneLine(it.bad.Error())
	case it.host != g.host || e.From.Host != g.name || p.Name != g.name:
		return codeForged, "this link is not that of the author's host"
	case e.After == nil || e.Seq != 0 || e.Timestamp != 0 || e.Signature != "" || e.Raw != nil || e.Origin != "" ||
		string(signed[len(signedPrefix):]) != string(it.text):
		return codeForm, "the envelope is not in the form in which it is signed"
	case !known || !p.Keys.Verify(signed, it.sig):
		return codeSignature, "the signature is not that of the author's host"
	}
	line := *e
	line.Seq, line.Timestamp = 1, 1
	if err := line.Validate(); err != nil {
		return codeForm, err.Error()
	}
	state, err := c.Ledger.State(g.ctx, e.Conversation)
	if err != nil {
		return "", "" // for Receive to say
	}
	if id, ok := state.Host(e.From.Host); ok && id != g.host {
		return codeForged, "in this conversation the name of the author's host means another one"
	}
	return "", ""
}

// explain is the refusal that an error means.
func explain(id string, err error) refusal {
	var refused *conv.Refusal
	if errors.As(err, &refused) { // without a reference, which holds on this host only
		return refusal{ID: id, Code: string(router.Translate(err, "").Code), Text: router.OneLine(refused.Text)}
	}
	known := router.Translate(err, "")
	r := refusal{ID: id, Code: string(known.Code), Text: router.OneLine(known.Message)}
	switch {
	case known.Code == api.StorageFailed:
		r.Code, r.Text = codeStorage, "the disk fails"
	case known.Retryable():
		r.Code = codeLater
	case known.Code == api.ConversationNotFound:
		r.Text = "there is no such conversation"
	case known.Code == api.Damaged, known.Code == api.Internal:
		r.Text = "the log cannot be written" // the rest is for people here
	}
	return r
}

// answerable reports whether a refusal can be told in the log: its author is there to be
// told, and it is not an answer itself.
func answerable(r refusal, e *envelope.Envelope, state conv.State) bool {
	switch r.Code {
	case codeLater, codeStorage, string(api.Damaged), string(api.Internal), string(api.KeyReused), string(api.ConversationNotFound):
		return false
	}
	return state.Has(e.From) && e.Event != envelope.EventUndeliverable
}

// answerInLog tells the author in the log why something was refused.
func (g *guest) answerInLog(e *envelope.Envelope, state conv.State, r refusal) (refusal, bool) {
	notice := &envelope.Envelope{
		ID: router.UndeliverableID(e.ID), Type: envelope.System, Event: envelope.EventUndeliverable, Conversation: e.Conversation,
		From: state.Creator, To: []string{e.From.String()}, About: e.ID, Why: r.Text,
	}
	if _, _, err := g.courier.Ledger.Append(ledger.Line{Envelope: notice, After: *e.After}); err != nil && !errors.Is(err, ledger.ErrReused) {
		return explain(e.ID, err), true
	}
	return refusal{}, false
}
