package httpd

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/desk"
)

type viewInput struct {
	Referred
	At     int64 `query:"at" minimum:"0" doc:"around this seq"`
	After  int64 `query:"after" minimum:"-1" default:"-1" doc:"behind this seq"`
	Before int64 `query:"before" minimum:"0" doc:"before this seq"`
	Limit  int   `query:"limit" minimum:"0" maximum:"240" doc:"so many lines: 60 where it is absent or 0. There are fewer where they are long"`
}

// view shows a part of a conversation to a person.
func (s *Server) view(ctx context.Context, who caller, in viewInput) (api.View, error) {
	id, err := s.conversationOf(ctx, who, in.Ref)
	if err != nil {
		return api.View{}, err
	}
	view, err := s.Desk.View(ctx, who.agent, id, desk.Window{At: in.At, After: in.After, Before: in.Before, Limit: in.Limit})
	for i, m := range view.Messages {
		if m.Error == "" && m.Envelope.Content != "" {
			view.Messages[i].HTML = s.markdown.Render(m.Envelope.Content)
		}
	}
	return view, err
}
