package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// wire is a connection to the daemon that carries one request after the other. It
// is much lighter than http.Transport, which needs two more goroutines for each: the
// caller's goroutine writes the request and reads the answer.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", c.socket)
}

// exchange sends a request and reads the head of the answer. The caller closes the
// answer's body, which sets the connection free. A daemon that has ended has closed
// the idle connections: writing to them fails, and nothing was sent.
func (c *Client) exchange(ctx context.Context, request []byte) (*http.Response, error) {
	for w := c.take(); w != nil; w = c.take() {
		stop := w.obey(ctx)
		if _, err := w.Write(request); err == nil {
			return c.receive(w, stop, nil)
		}
		stop()
		_ = w.Close() // it is of no more use
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, in: bufio.NewReader(conn)}
	stop := w.obey(ctx)
	_, err = w.Write(request)
	return c.receive(w, stop, err)
}

// sendFile is exchange for a request with a file behind its head, which cannot be sent
// twice: it takes a connection of its own.
func (c *Client) sendFile(ctx context.Context, head []byte, r request) (*http.Response, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, in: bufio.NewReader(conn)}
	stop := w.obey(ctx)
	if _, err = w.Write(head); err == nil {
		_, err = io.CopyN(w, r.file, r.size)
	}
	if errors.Is(err, io.EOF) { // the file has become shorter: the daemon would wait for the rest
		stop()
		return nil, errors.Join(fmt.Errorf("read file: %w", io.ErrUnexpectedEOF), w.Close())
	}
	return c.receive(w, stop, err)
}

// obey ends what waits on the connection when ctx ends.
func (w *wire) obey(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = w.SetDeadline(time.Unix(1, 0)) })
}

// receive reads the head of an answer. A daemon may answer before it has read all of
// a request, so that an error of writing is not yet the end.
func (c *Client) receive(w *wire, stop func() bool, sent error) (*http.Response, error) {
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		stop()
		return nil, errors.Join(sent, err, w.Close())
	}
	resp.Body = &answer{body: resp.Body, client: c, wire: w, stop: stop, keep: !resp.Close && sent == nil}
	return resp, nil
}

func (c *Client) take() *wire {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	w := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return w
}

const maxIdle = 16

func (c *Client) free(w *wire) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == maxIdle {
		return w.Close()
	}
	c.idle = append(c.idle, w)
	return nil
}

// answer is the body of an answer. When it was read to its end, Close keeps the
// connection for the next request.
type answer struct {
	body   io.ReadCloser
	client *Client
	wire   *wire
	stop   func() bool
	keep   bool // the daemon takes another request on the connection
	ended  bool // the body was read to its end
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	a.ended = a.ended || errors.Is(err, io.EOF)
	return n, err
}

func (a *answer) Close() error {
	if a.wire == nil {
		return nil
	}
	w := a.wire
	a.wire = nil
	if a.stop() && a.keep && a.ended {
		return a.client.free(w)
	}
	return w.Close()
}
