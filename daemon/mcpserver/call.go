package mcpserver

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// call is one call of a tool.
type call struct {
	*text.Writer // of the result's text
	server       *server
	as           Speaker
	args         values
	req          *mcp.CallToolRequest

	out   bytes.Buffer
	value any // structured content
	then  []func(handed bool)
}

// call runs a tool. Whatever goes wrong is a result, so that the model can read it.
func (s *server) call(ctx context.Context, t *tool, req *mcp.CallToolRequest) *mcp.CallToolResult {
	var header http.Header
	if req.Extra != nil {
		header = req.Extra.Header
	}
	res, ctx, stop := s.results.begin(ctx, header)
	defer stop()
	c := &call{server: s, req: req}
	c.Writer = &text.Writer{Out: &c.out, Command: inTools}
	err := c.run(ctx, t, header)
	if c.as.Host != nil {
		c.then = append(c.then, func(bool) { _ = c.as.Close() }) // the daemon has answered
	}
	res.when(c.then)
	result := &mcp.CallToolResult{}
	if err != nil {
		e := asError(err)
		e.Next = cmp.Or(e.Next, t.example)
		c.Error(e)
		result.IsError = e.Code != api.Pending
		if c.value == nil {
			c.value = map[string]failed{"error": {e.Code, e.Message, e.Retryable(), inTools(e.Next), e.Near}}
		}
	}
	result.Content = []mcp.Content{&mcp.TextContent{Text: c.out.String()}}
	if c.value != nil {
		if data, err := json.Marshal(c.value); err == nil {
			result.StructuredContent = json.RawMessage(frame.JSON(data))
		}
	}
	return result
}

// failed is an error as the structured content tells it.
type failed struct {
	Code      api.Code `json:"code"`
	Message   string   `json:"message"`
	Retryable bool     `json:"retryable"`
	Next      string   `json:"next,omitempty"`
	Near      []string `json:"near,omitempty"`
}

func (c *call) run(ctx context.Context, t *tool, header http.Header) (err error) {
	if c.args, err = t.parse(c.req.Params.Arguments); err != nil {
		return err
	}
	if err = c.speak(ctx, header); err != nil {
		return err
	}
	if c.as.Nobody != nil && !t.anybody && !(c.as.Observes && t.observes) {
		return c.as.Nobody
	}
	return t.run(c, ctx)
}

// speak finds out who calls.
func (c *call) speak(ctx context.Context, header http.Header) (err error) {
	if c.as, err = c.server.Speaker(ctx, header); err == nil {
		c.Me, c.Writer.Host, c.Ref = c.as.Agent, c.as.Home.Host.Name, c.refOf
	}
	return err
}

// asError finds the code of an error, and what makes sense next.
func asError(err error) *api.Error {
	var found *api.Error
	e := api.Error{Code: api.Internal, Message: err.Error(), Next: "duo status"}
	switch {
	case errors.As(err, &found):
		e = *found
		e.Next = cmp.Or(e.Next, nextOf(e.Code))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Message = api.Pending, "the call was cancelled"
	case errors.Is(err, maildir.ErrNoHome):
		e.Code, e.Next = api.IdentityRequired, "duo register NAME"
	case errors.Is(err, maildir.ErrUnsafe):
		e.Code = api.UnsafeHome
	case errors.Is(err, maildir.ErrConfig):
		e.Code, e.Next = api.BadConfig, "duo config"
	case durable.DiskFailed(err):
		e.Code = api.StorageFailed
	}
	return &e
}

func nextOf(code api.Code) string {
	switch code {
	case api.AgentNotFound, api.HostNotFound, api.NobodyElse, api.NobodyAvailable, api.NotAccepted, api.Declined:
		return "duo who"
	case api.ConversationNotFound, api.MessageNotFound, api.NotParticipant, api.ConversationClosed,
		api.TurnLimitReached, api.AmbiguousReference, api.BadReference:
		return "duo list"
	case api.RequestNotFound, api.RequestAnswered, api.CallOver:
		return "duo inbox"
	case api.IdentityRequired, api.IdentityUnknown, api.NotAllowed, api.ReadOnly:
		return "duo whoami"
	case api.StorageFailed, api.Busy, api.Stopping, api.DaemonUnreachable, api.RateLimited:
		return "duo status"
	}
	return ""
}

// refOf is the reference of a conversation, as far as the files tell it.
func (c *call) refOf(id string) string {
	ids, err := c.as.Home.Conversations()
	if err != nil {
		return id // which works everywhere too
	}
	return maildir.NewRefs(ids).Short(id)
}

// away says that the files have answered, and why.
func (c *call) away(why error) {
	if why != nil {
		c.Say("%s", frame.Cut("note: no daemon can be reached, this is what the files say ("+why.Error()+")", 300))
	}
}

// dropped tells that what was said waits in the outbox.
func (c *call) dropped(d *reach.Dropped) error {
	c.Say("%s", frame.Cut("note: no daemon can be reached ("+d.Why+")", 300))
	c.Say("it waits in %s and is sent when a daemon runs", frame.Line(d.File))
	c.Dropped(d.Message, "duo wait")
	c.value = d
	return nil
}

// seconds is how long an argument says to wait.
func (c *call) seconds(name string, otherwise int) time.Duration {
	return time.Duration(c.args.whole(name, otherwise)) * time.Second
}

// ask asks the daemon on behalf of the speaker.
func ask[T any](ctx context.Context, c *call, question func(*client.Client) (T, error)) (T, error) {
	return reach.Ask(ctx, c.as.Host, question)
}

const progressEvery = 5 * time.Second

// progress tells the client that a wait goes on, until the function that it returns is
// called.
func (c *call) progress(ctx context.Context, what string, total time.Duration) (stop func()) {
	token := c.req.Params.GetProgressToken()
	if token == nil || total == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		began := time.Now()
		for {
			reach.Pause(ctx, progressEvery)
			if ctx.Err() != nil {
				return
			}
			_ = c.req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ // one that is lost is followed by others
				ProgressToken: token, Progress: time.Since(began).Seconds(), Total: total.Seconds(), Message: "waiting for " + what,
			})
		}
	}()
	return func() { cancel(); <-done }
}

// brief is a number of seconds as a text.
func brief(d time.Duration) string { return fmt.Sprintf("%d s", int(d.Seconds())) }
