// Package client talks to the daemon of this host over its local socket: one method
// for each route of daemon/api, and the stream.
//
// Nothing is opened before the first request. Errors are *api.Error: what the daemon
// answered, or api.DaemonUnreachable with [ErrNoDaemon] or [ErrBroken] as the cause.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

var (
	// ErrNoDaemon means that nobody answers at the socket: nothing was sent.
	ErrNoDaemon = errors.New("no daemon at the socket")
	// ErrBroken means that the connection ended before the answer was whole: nobody
	// knows whether the request was carried out. A draft with an id may be sent again.
	ErrBroken = errors.New("the connection to the daemon broke")
	// ErrSilent means that no answer came in time, as from a daemon that was stopped or hangs:
	// nobody knows whether the request was carried out. A draft with an id may be sent again.
	ErrSilent = errors.New("the daemon does not answer")
)

const (
	// patience is for an answer, beyond the wait that the request asks for. It ends before
	// the client of a model gives up on a tool, after 60 s, and the model says all again.
	patience    = 45 * time.Second
	maxProblem  = 1 << 20
	problemType = "application/problem+json"
)

// Client speaks for one agent, or for the operator when it has no agent. It may be
// used by several goroutines.
type Client struct {
	socket string
	agent  string
	token  string

	mu   sync.Mutex
	idle []*wire // connections that wait for the next request
}

// New makes a client for the daemon at a socket. An empty agent is the operator.
func New(socket, agent string) *Client { return &Client{socket: socket, agent: agent} }

// WithToken makes a client that may do no more than the bearer of a token may.
func WithToken(socket, token string) *Client { return &Client{socket: socket, token: token} }

// Close closes the connections that wait for a request. The client can still be used.
func (c *Client) Close() error {
	var errs []error
	for w := c.take(); w != nil; w = c.take() {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// request is one call of a route.
type request struct {
	route string        // "GET /v1/agents/{name}"
	arg   string        // what stands for the {part} of the route
	query url.Values    // empty values are left out
	body  any           // sent as JSON, nil for none
	wait  time.Duration // how long the daemon may take before it answers
	file  io.Reader     // sent as it is, in place of body
	size  int64         // of file
	kind  string        // media type of file, may be empty
}

// call sends a request and reads the answer into a T.
func call[T any](ctx context.Context, c *Client, r request) (T, error) {
	var answer T
	ctx, cancel := context.WithTimeout(ctx, r.wait+patience)
	defer cancel()
	body, err := c.open(ctx, r)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return answer, c.failure(ctx, err)
	}
	if len(data) == 0 {
		return answer, nil
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return answer, api.Errorf(api.Internal, "read the daemon's answer to %s: %w", r.route, err)
	}
	return answer, nil
}

// open sends a request and returns the body of a good answer.
func (c *Client) open(ctx context.Context, r request) (io.ReadCloser, error) {
	head, err := c.encode(r)
	if err != nil {
		return nil, api.Errorf(api.Internal, "make request %s: %w", r.route, err)
	}
	var resp *http.Response
	if r.file != nil {
		resp, err = c.sendFile(ctx, head, r)
	} else {
		resp, err = c.exchange(ctx, head)
	}
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp.Body, nil
}

// encode writes a request as HTTP carries it.
func (c *Client) encode(r request) ([]byte, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return nil, err
		}
	}
	if strings.ContainsAny(c.agent+c.token+r.kind, "\r\n") {
		return nil, fmt.Errorf("%q is no name of an agent, or %q no media type", c.agent, r.kind)
	}
	method, path, _ := strings.Cut(r.route, " ")
	if before, rest, found := strings.Cut(path, "{"); found {
		_, after, _ := strings.Cut(rest, "}")
		path = before + url.PathEscape(r.arg) + after
	}
	if query := r.query.Encode(); query != "" {
		path += "?" + query
	}
	out := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: duo\r\nContent-Length: %d\r\n", method, path, int64(len(body))+r.size)
	if c.agent != "" {
		out = fmt.Appendf(out, "%s: %s\r\n", api.AgentHeader, c.agent)
	}
	if c.token != "" {
		out = fmt.Appendf(out, "Authorization: Bearer %s\r\n", c.token)
	}
	if r.body != nil {
		out = append(out, "Content-Type: application/json\r\n"...)
	}
	if r.kind != "" {
		out = fmt.Appendf(out, "Content-Type: %s\r\n", r.kind)
	}
	return append(append(out, "\r\n"...), body...), nil
}

// failure tells a daemon that is not there from a connection that broke.
func (c *Client) failure(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
		return api.Errorf(api.DaemonUnreachable, "%w", ErrSilent).WithNext("duo doctor")
	} else if cause != nil {
		return cause
	}
	kind := ErrBroken
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		kind = ErrNoDaemon
		err = op.Err
	}
	return unreachable(kind, err, c.socket)
}

func unreachable(kind, cause error, socket string) error {
	return api.Errorf(api.DaemonUnreachable, "%w: %s: %w", kind, socket, cause).WithNext("duo up")
}

func problem(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return api.Errorf(api.Internal, "read the daemon's error: %w", err)
	}
	var p api.Problem
	if strings.HasPrefix(resp.Header.Get("Content-Type"), problemType) && json.Unmarshal(data, &p) == nil && p.Code != "" {
		return p.Error()
	}
	if resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge { // which net/http says itself
		return api.Errorf(api.TooLarge, "what was asked for is too long")
	}
	return api.Errorf(api.Internal, "the daemon answered %s: %s", resp.Status, strings.TrimSpace(string(data)))
}

// Unreachable reports whether an error means that there is no daemon to talk to, or none
// that answers, and not that the daemon has refused something.
func Unreachable(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && (e.Code == api.DaemonUnreachable || e.Code == api.Stopping)
}

// values makes a query of pairs of names and values, without those that are empty.
func values(pairs ...string) url.Values {
	query := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Add(pairs[i], pairs[i+1])
		}
	}
	return query
}

func number[N int | int64](n N) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func span(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.String()
}

// route is where a draft is posted, and what it is posted as: a conversation is
// named by the route and not in the draft.
func route(draft *envelope.Envelope) (request, error) {
	body := *draft
	body.Conversation = ""
	r := request{arg: draft.Conversation, body: &body}
	switch draft.Type {
	case envelope.Message:
		r.route = api.RouteSend
		if draft.Conversation == "" {
			r.route = api.RouteMessage
		}
	case envelope.Create:
		r.route = api.RouteCreate
	case envelope.Join, envelope.Invite:
		r.route = api.RouteInvite
	case envelope.Leave:
		r.route = api.RouteLeave
	case envelope.Close:
		r.route = api.RouteClose
	default:
		return request{}, api.Errorf(api.BadRequest, "a draft of the type %q cannot be posted", draft.Type)
	}
	return r, nil
}
