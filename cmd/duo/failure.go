package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/spf13/cobra"
)

// usage is the error of a command line that cannot be understood; next is the
// command as it should be.
func usage(next, format string, args ...any) *api.Error {
	err := api.Errorf(api.BadRequest, format, args...)
	err.Next = next
	return err
}

// fail tells an error and returns the exit code. It is the one place that does.
func (a *app) fail(cmd *cobra.Command, err error) int {
	a.json = a.json || slices.Contains(a.args, "--json") // it may stand behind the flag that is wrong
	if errors.Is(err, context.Canceled) {
		return a.interrupted()
	}
	e := asError(err)
	if e.Next == "" {
		e.Next = defaultNext(cmd, e.Code)
	}
	if e.Code != api.IdentityRequired && e.Code != api.IdentityUnknown {
		e.Next = a.asMe(e.Next)
	}
	if a.json {
		a.failJSON(failed{e.Code, e.Message, e.Exit(), e.Retryable(), e.Next, e.Near})
	} else {
		(&text.Writer{Out: a.stderr}).Error(e)
	}
	return e.Exit()
}

func (a *app) interrupted() int {
	if a.json {
		a.failJSON(failed{Code: "interrupted", Message: "interrupted", Exit: api.ExitInterrupted, Retryable: true, Next: a.asMe("duo inbox")})
	} else {
		fmt.Fprintln(a.stderr, "interrupted")
	}
	return api.ExitInterrupted
}

// asError finds the code of an error.
func asError(err error) *api.Error {
	var e *api.Error
	switch {
	case errors.As(err, &e):
		found := *e
		return &found
	case errors.Is(err, maildir.ErrNoHome):
		return &api.Error{Code: api.IdentityRequired, Message: err.Error(), Next: "duo register NAME"}
	case errors.Is(err, maildir.ErrUnsafe):
		return &api.Error{Code: api.UnsafeHome, Message: err.Error(), Next: makeSafe()}
	case errors.Is(err, maildir.ErrConfig):
		dir, _ := maildir.DefaultDir()
		return &api.Error{Code: api.BadConfig, Message: err.Error(), Next: "cat " + shellQuote((&maildir.Home{Dir: dir}).ConfigPath())}
	case durable.DiskFailed(err):
		dir, _ := maildir.DefaultDir()
		return &api.Error{Code: api.StorageFailed, Message: err.Error(), Next: "df -h " + shellQuote(dir)}
	case errors.Is(err, fs.ErrPermission):
		return &api.Error{Code: api.Internal, Message: err.Error(), Next: "duo config path"}
	}
	return &api.Error{Code: api.Internal, Message: err.Error()}
}

// makeSafe is the command for a home that is not safe: the mode can be put right, of what
// is no folder or another user's one can only look what it is.
func makeSafe() string {
	dir, _ := maildir.DefaultDir() // it was found before
	if info, err := os.Stat(dir); err == nil && info.IsDir() && durable.OwnedBySelf(info) {
		return "chmod 700 " + shellQuote(dir)
	}
	return "ls -ld " + shellQuote(dir)
}

func defaultNext(cmd *cobra.Command, code api.Code) string {
	switch code {
	case api.BadRequest, api.BadReference, api.TooLarge, api.TooMany:
		return strings.TrimSpace(cmd.CommandPath()) + " --help"
	case api.AgentNotFound, api.HostNotFound, api.NobodyElse:
		return "duo who"
	case api.ConversationNotFound, api.MessageNotFound, api.NotParticipant, api.ConversationClosed,
		api.TurnLimitReached, api.AmbiguousReference:
		return "duo list"
	case api.RequestNotFound, api.RequestAnswered, api.CallOver:
		return "duo call"
	case api.NobodyAvailable, api.NotAccepted, api.Declined:
		return "duo who"
	case api.TokenNotFound:
		return "duo token list"
	case api.IdentityRequired, api.IdentityUnknown, api.NotAllowed:
		return "duo whoami"
	}
	return "duo status"
}

// failed is an error as --json tells it on stderr.
type failed struct {
	Code      api.Code `json:"code"`
	Message   string   `json:"message"`
	Exit      int      `json:"exit"`
	Retryable bool     `json:"retryable"`
	Next      string   `json:"next"`
	Near      []string `json:"near,omitempty"`
}

func (a *app) failJSON(f failed) {
	data, err := json.Marshal(map[string]failed{"error": f})
	if err != nil {
		data = fmt.Appendf(nil, `{"error":{"code":"internal","message":%q,"exit":1,"retryable":false,"next":""}}`, err)
	}
	fmt.Fprintf(a.stderr, "%s\n", frame.JSON(data))
}
