package httpd

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) searchRoutes(door huma.API) {
	const group = "search"
	serve(s, door, route{api.RouteSearch, reading, group, "search", "Search the conversations that the caller may read", nil}, s.search)
	serve(s, door, route{api.RouteTalk, reading, group, "getTalk", "Tell who has written to whom; to an agent's token only what concerns the agent", nil}, s.talk)
	serve(s, door, route{api.RouteSQL, ruling, group, "sql", "Answer a question in SQL, on the local socket", api.SQL{}}, s.sql)
}

type searchInput struct {
	Paged
	Query string `query:"q" doc:"words, phrases, prefixes and filters; see docs/search.md"`
	From  string `query:"from" doc:"by this agent: a name or an address"`
	In    string `query:"in" doc:"a conversation: a reference or a full id"`
	Since string `query:"since" doc:"a time, a day, or a span back from now like 2d"`
	Until string `query:"until" doc:"as since"`
}

func (s *Server) search(ctx context.Context, who caller, in searchInput) (api.Hits, error) {
	q, err := search.Parse(api.Search{Query: in.Query, From: in.From, In: in.In, Since: in.Since, Until: in.Until}, time.Now())
	if err != nil {
		return api.Hits{}, err
	}
	for _, refs := range [][]string{q.In, q.NotIn} {
		for i, ref := range refs {
			if refs[i], err = s.conversationOf(ctx, who, ref); err != nil {
				return api.Hits{}, err
			}
		}
	}
	return s.Search.Find(ctx, q, s.reader(who), in.Limit, in.Cursor)
}

// reader is the agent of a caller who sees only what concerns it, else the zero address.
func (s *Server) reader(who caller) envelope.Address {
	if !who.own {
		return envelope.Address{}
	}
	return s.Home.Address(who.agent)
}

type talkInput struct {
	Since string `query:"since" doc:"a time, a day, or a span back from now like 2d; all times where it is absent"`
}

func (s *Server) talk(ctx context.Context, who caller, in talkInput) (api.Talk, error) {
	since := time.UnixMilli(0)
	if in.Since != "" {
		var err error
		if since, err = search.ParseTime(in.Since, time.Now()); err != nil {
			return api.Talk{}, api.Errorf(api.BadRequest, "since: %w", err)
		}
	}
	return s.Search.Talk(ctx, since, s.reader(who))
}

type sqlInput struct{ withBody }

func (s *Server) sql(ctx context.Context, who caller, in sqlInput) (api.Rows, error) {
	if !isLocal(ctx) || who.token != "" {
		return api.Rows{}, api.Errorf(api.NotAllowed, "SQL is for the user of the host, on its own socket").WithNext("duo search --help")
	}
	ask, err := decode[api.SQL](in.RawBody)
	if err != nil {
		return api.Rows{}, err
	}
	return s.Search.SQL(ctx, ask)
}
