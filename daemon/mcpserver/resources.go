package mcpserver

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	inboxURI         = "duo://inbox"
	conversationsURI = "duo://conversations"
	plain            = "text/plain"
	listMethod       = "resources/list"
)

// addResources lets clients that show resources show the inbox and conversations. Reading
// one changes nothing.
func (s *server) addResources(m *mcp.Server, observer bool) {
	add := func(uri, name, about string, write func(*call, context.Context) error) {
		m.AddResource(&mcp.Resource{URI: uri, Name: name, Description: about, MIMEType: plain}, s.resource(func(c *call, ctx context.Context, _ string) error {
			return write(c, ctx)
		}))
	}
	if !observer {
		add(inboxURI, "inbox", "What you have not seen", (*call).inbox)
		add(conversationsURI, "conversations", "Your conversations", (*call).list)
		m.AddReceivingMiddleware(s.listed)
	}
	m.AddResourceTemplate(&mcp.ResourceTemplate{
		URITemplate: conversationsURI + "/{ref}", Name: "conversation", Description: "The end of a conversation", MIMEType: plain,
	}, s.resource(func(c *call, ctx context.Context, uri string) error {
		ref, err := url.PathUnescape(strings.TrimPrefix(uri, conversationsURI+"/"))
		if err != nil {
			return api.Errorf(api.BadReference, "%.100q: %w", uri, err)
		}
		c.args = values{"ref": ref}
		return c.log(ctx)
	}))
}

// resource makes what reads a resource of what writes it. It is seen by nobody for sure,
// so nothing is marked.
func (s *server) resource(write func(*call, context.Context, string) error) mcp.ResourceHandler {
	return func(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		c, ctx, stop, err := s.look(ctx, req.Extra)
		if err != nil {
			return nil, err
		}
		defer stop()
		if c.as.Nobody != nil && !c.as.Observes {
			return nil, c.as.Nobody
		}
		if err := write(c, ctx, req.Params.URI); err != nil {
			e := asError(err)
			if client.Unreachable(e) || e.Status() >= http.StatusInternalServerError {
				return nil, e
			}
			return nil, mcp.ResourceNotFoundError(req.Params.URI)
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: req.Params.URI, MIMEType: plain, Text: c.out.String()}}}, nil
	}
}

// look begins a call that calls no tool.
func (s *server) look(ctx context.Context, extra *mcp.RequestExtra) (*call, context.Context, func(), error) {
	var header http.Header
	if extra != nil {
		header = extra.Header
	}
	_, ctx, stop := s.results.begin(ctx, header)
	c := &call{server: s}
	c.Writer = &text.Writer{Out: &c.out, Command: inTools}
	if err := c.speak(ctx, header); err != nil {
		stop()
		return nil, nil, nil, err
	}
	return c, ctx, func() {
		_ = c.as.Close() // the daemon has answered
		stop()
	}, nil
}

// listed adds the latest conversations to the list of resources.
func (s *server) listed(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, req)
		list, ok := result.(*mcp.ListResourcesResult)
		if err != nil || !ok || method != listMethod {
			return result, err
		}
		c, ctx, stop, err := s.look(ctx, req.GetExtra())
		if err != nil {
			return result, nil // the fixed ones are there all the same
		}
		defer stop()
		if c.as.Nobody != nil {
			return result, nil
		}
		found, _, err := c.conversations(ctx, "")
		if err != nil {
			return result, nil
		}
		for _, conversation := range found.Conversations {
			list.Resources = append(list.Resources, &mcp.Resource{
				URI: conversationsURI + "/" + conversation.Ref, Name: conversation.Ref, MIMEType: plain,
				Title: frame.Cut(conversation.Topic, 80), Description: c.Summary(conversation),
			})
		}
		return result, nil
	}
}
