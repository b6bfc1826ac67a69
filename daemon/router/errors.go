package router

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Translate makes an error of the parts below into one that crosses processes. ref
// is the conversation that it is about, if any.
func Translate(err error, ref string) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	var refusal *conv.Refusal
	if errors.As(err, &refusal) {
		return refused(refusal, ref)
	}
	var damage *convlog.DamageError
	switch {
	case errors.As(err, &damage):
		return api.Errorf(api.Damaged, "conversation %s: %w", ref, damage).WithNext("duo fsck %s", ref)
	case errors.Is(err, ledger.ErrForeign):
		return api.Errorf(api.Damaged, "conversation %s: %w", ref, err).WithNext("duo fsck %s", ref)
	case errors.Is(err, envelope.ErrInvalid):
		return api.Errorf(api.BadRequest, "%w", err)
	case errors.Is(err, ledger.ErrNotFound):
		return api.Errorf(api.ConversationNotFound, "no conversation %s here", ref).WithNext("duo list")
	case errors.Is(err, ledger.ErrReused):
		return api.Errorf(api.KeyReused, "%w; take another key", err).WithNext("duo list")
	case errors.Is(err, ledger.ErrClosed):
		return api.Errorf(api.Stopping, "the daemon is stopping; nothing was stored").WithNext("duo up")
	case errors.Is(err, ledger.ErrBehind):
		return api.Errorf(api.Busy, "conversation %s: %w; nothing was stored, try again", ref, ledger.ErrBehind)
	case errors.Is(err, convlog.ErrBusy):
		return api.Errorf(api.Busy, "conversation %s is locked by another program; nothing was stored", ref)
	case errors.Is(err, convlog.ErrFailed), errors.Is(err, convlog.ErrReplaced), isDisk(err):
		return api.Errorf(api.StorageFailed, "it is not known whether this is stored; the same again, with the same id, does no harm: %w", err).WithNext("duo status")
	}
	return api.Errorf(api.Internal, "%w", err)
}

func isDisk(err error) bool { return durable.DiskFailed(err) || errors.Is(err, fs.ErrPermission) }

// refusals says what each kind of refusal is called, and which command comes next.
var refusals = map[conv.Kind]struct {
	code api.Code
	next string
}{
	conv.NotParticipant: {api.NotParticipant, "duo list"},
	conv.NotOpen:        {api.NotAllowed, "duo show REF"},
	conv.NotCreator:     {api.NotAllowed, "duo leave REF"},
	conv.AlreadyIn:      {api.AlreadyParticipant, "duo show REF"},
	conv.Closed:         {api.ConversationClosed, "duo log REF"},
	conv.TurnLimit:      {api.TurnLimitReached, "duo log REF"},
	conv.NobodyElse:     {api.NobodyElse, "duo leave REF"},
	conv.TooMany:        {api.TooMany, "duo show REF"},
	conv.NoLine:         {api.MessageNotFound, "duo log REF"},
	conv.Full:           {api.TooMany, "duo close REF"},
	conv.Hops:           {api.TooManyHops, "duo log REF"},
	conv.OtherHost:      {api.NotAllowed, "duo show REF"},
	conv.NotOperator:    {api.NotAllowed, "duo show REF"},
}

func refused(r *conv.Refusal, ref string) *api.Error {
	kind, ok := refusals[r.Kind]
	switch {
	case !ok:
		return api.Errorf(api.Internal, "%w", r)
	case r.Join:
		kind.next = "duo join REF"
	case ref == "":
		return api.Errorf(kind.code, "%w", r).WithNext("duo list")
	}
	return api.Errorf(kind.code, "%s: %w", ref, r).WithNext("%s", strings.ReplaceAll(kind.next, "REF", ref))
}
