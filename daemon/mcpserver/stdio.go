package mcpserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxRequest bounds what a client may send at once: more than the longest text, written
// in JSON.
const maxRequest = 8 << 20

// ServeStdio serves one client over a pair of streams, a message a line, until the client
// closes its one or ctx ends.
func ServeStdio(ctx context.Context, parts Parts, in io.ReadCloser, out io.WriteCloser) error {
	s := &server{Parts: parts, results: newResults()}
	transport := &stdio{mcp.IOTransport{Reader: newLines(in, out), Writer: out, MaxLineLength: -1}, s.results}
	err := s.newMCP(false).Run(ctx, transport)
	if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// stdio is a transport that tells of each result whether it was written.
type stdio struct {
	mcp.IOTransport
	results *results
}

// Connect implements mcp.Transport.
func (t *stdio) Connect(ctx context.Context) (mcp.Connection, error) {
	c, err := t.IOTransport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{Connection: c, results: t.results, open: make(map[any]string)}, nil
}

type connection struct {
	mcp.Connection
	results *results

	mu   sync.Mutex
	open map[any]string // results by the ids of the requests
}

// Read implements mcp.Connection. It notes for each request which result it is for. One
// with the id of another that is open is refused, and has none.
func (c *connection) Read(ctx context.Context) (jsonrpc.Message, error) {
	message, err := c.Connection.Read(ctx)
	req, ok := message.(*jsonrpc.Request)
	if err != nil || !ok || !req.IsCall() {
		return message, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.open[req.ID.Raw()]; twice {
		return req, nil
	}
	key := c.results.add(context.Background(), "") // the session ends what it has begun
	req.Extra = &mcp.RequestExtra{Header: http.Header{resultHeader: {key}}}
	c.open[req.ID.Raw()] = key
	return req, nil
}

// Write implements mcp.Connection. What was written is handed over.
func (c *connection) Write(ctx context.Context, message jsonrpc.Message) error {
	resp, ok := message.(*jsonrpc.Response)
	if !ok {
		return c.Connection.Write(ctx, message)
	}
	c.mu.Lock()
	key := c.open[resp.ID.Raw()]
	delete(c.open, resp.ID.Raw()) // who has read the response may use the id again
	c.mu.Unlock()
	err := c.Connection.Write(ctx, message)
	c.results.end(key, err == nil)
	return err
}

// Close implements mcp.Connection. What was not written by now is not handed over.
func (c *connection) Close() error {
	err := c.Connection.Close()
	c.mu.Lock()
	open := c.open
	c.open = make(map[any]string)
	c.mu.Unlock()
	for _, key := range open {
		c.results.end(key, false)
	}
	return err
}
