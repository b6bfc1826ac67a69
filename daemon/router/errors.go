package router

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
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
		return api.Errorf(api.Damaged, "conversation %s takes no messages: %w", ref, damage).WithNext("duo fsck %s", ref)
	case errors.Is(err, envelope.ErrInvalid):
		return api.Errorf(api.BadRequest, "%w", err)
	case errors.Is(err, ledger.ErrNotFound):
		return api.Errorf(api.ConversationNotFound, "no conversation %s here", ref).WithNext("duo list")
	case errors.Is(err, ledger.ErrReused):
		return api.Errorf(api.KeyReused, "the key or id was used for another message: %w", err).WithNext("duo log %s", ref)
	case errors.Is(err, ledger.ErrClosed):
		return api.Errorf(api.Stopping, "the daemon is stopping; nothing was stored").WithNext("duo up")
	case errors.Is(err, convlog.ErrBusy):
		return api.Errorf(api.Busy, "conversation %s is locked by another program; nothing was stored", ref)
	case errors.Is(err, convlog.ErrFailed), errors.Is(err, convlog.ErrReplaced), isDisk(err):
		return api.Errorf(api.StorageFailed, "the message is not known to be stored; sending it again does no harm: %w", err).WithNext("duo status")
	}
	return api.Errorf(api.Internal, "%w", err)
}

func isDisk(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EFBIG, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, fs.ErrPermission)
}

func refused(r *conv.Refusal, ref string) *api.Error {
	switch r.Kind {
	case conv.NotParticipant:
		return api.Errorf(api.NotParticipant, "%w", r).WithNext("duo join %s", ref)
	case conv.NotOpen, conv.NotCreator:
		return api.Errorf(api.NotAllowed, "%w", r).WithNext("duo show %s", ref)
	case conv.AlreadyIn:
		return api.Errorf(api.AlreadyParticipant, "%w", r).WithNext("duo show %s", ref)
	case conv.Closed:
		return api.Errorf(api.ConversationClosed, "%w", r).WithNext("duo log %s", ref)
	case conv.TurnLimit:
		return api.Errorf(api.TurnLimitReached, "%w", r).WithNext("duo close %s", ref)
	case conv.NobodyElse:
		return api.Errorf(api.NobodyElse, "%w", r).WithNext("duo leave %s", ref)
	case conv.TooMany:
		return api.Errorf(api.TooMany, "%w", r).WithNext("duo show %s", ref)
	}
	return api.Errorf(api.Internal, "%w", r)
}
