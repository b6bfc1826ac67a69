package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

// rung is what became of what was said of a call: the daemon has it, or it waits as a
// drop.
type rung struct {
	api.Called
	dropped *reach.Dropped
}

// signal says something of a call, or leaves it as a drop, as reach.Host.Signal does.
func (a *app) signal(ctx context.Context, draft *envelope.Envelope) (rung, error) {
	called, left, err := hand(ctx, a, draft, (*reach.Host).Signal)
	return rung{called, left}, err
}

// tellRung says what became of it; done says it for what the daemon has.
func (a *app) tellRung(r rung, done func(api.Called)) error {
	if r.dropped == nil {
		return a.print(r.Called, func() { done(r.Called) })
	}
	return a.tellDropped(r.dropped, "duo up")
}

// isRequest reports whether a text has the form of a reference to a call.
func isRequest(text string) bool { return maildir.IsRequest(text) }

// checkRequest is an error where a text can name no call.
func checkRequest(text string) error {
	if maildir.NamesRequest(text) {
		return nil
	}
	return api.Errorf(api.BadReference, "%q is no reference to a call: want one like r77b2", text).WithNext("duo inbox")
}

// takeRequest takes the call off the front of the arguments: empty for the only one that
// there is.
func takeRequest(args []string) (ref string, rest []string, err error) {
	if len(args) == 0 {
		return "", nil, nil
	}
	return args[0], args[1:], checkRequest(args[0])
}

func (a *app) request(ctx context.Context, ref string) (api.Request, error) {
	return ask(ctx, a, func(c *client.Client) (api.Request, error) { return c.Request(ctx, ref) })
}

// outcomeOf is what a wait for an answer has found, as --json tells it.
type outcomeOf struct {
	api.Called
	TimedOut bool `json:"timedOut"`
}

// waitAnswer waits for the answer to a call that was placed, and tells it. What is no
// acceptance is an error.
func (a *app) waitAnswer(ctx context.Context, called api.Called, wait time.Duration) error {
	moved := func(from, to api.Request) {
		if !a.json {
			a.say("%s %s; going on with %s%s", from.Ref, a.text().Callees(from), a.text().Bold(to.Ref), " to "+a.text().Callees(to))
			_ = a.flush() // what cannot be written now is an error in the end
		}
	}
	h, err := a.host()
	if err != nil {
		return err
	}
	r, done, err := h.Answer(ctx, called.Request, wait, moved)
	if err != nil {
		return err
	}
	called.Request = r
	if r.Conversation != "" && called.Conversation == nil {
		c, err := a.conversation(ctx, r.Conversation)
		if err != nil {
			return err
		}
		called.Conversation = &c
	}
	if err := a.print(outcomeOf{Called: called, TimedOut: !done}, func() { a.text().Answered(called) }); err != nil {
		return err
	}
	if !done {
		return api.Errorf(api.Pending, "no answer in %s, which is not an error; %s: %s", brief(wait), r.Ref, a.text().Callees(r)).
			WithNext("duo wait --for answer %s", r.Ref)
	}
	if err := a.flush(); err != nil {
		return err
	}
	if err := a.told(ctx, r); err != nil {
		return err
	}
	return a.text().Declined(r)
}

// told notes that the caller knows what came of its call.
func (a *app) told(ctx context.Context, r api.Request) error {
	place := []api.Place{{Request: r.ID}}
	_, err := ask(ctx, a, func(c *client.Client) (struct{}, error) { return struct{}{}, c.Shown(ctx, place) })
	return err
}

// completeCalls completes references to calls of which something can still come.
func (a *app) completeCalls(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return noCompletion(cmd, args, begun)
	}
	var words []string
	a.hurry(cmd, func(ctx context.Context) {
		if _, err := a.me(); err != nil {
			return
		}
		list, err := ask(ctx, a, func(c *client.Client) (api.Requests, error) { return c.Requests(ctx) })
		if err != nil {
			return
		}
		for _, r := range slices.Backward(list.Requests) {
			words = append(words, r.Ref+"\t"+strings.TrimSpace(text.Title(r.Topic)+" from "+a.text().Local(r.From)))
		}
	})
	return matching(words, begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
