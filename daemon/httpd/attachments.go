package httpd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
)

const dataType = "application/octet-stream"

// attach stores the body of a request as a file that the agent's messages can mention.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	a, err := s.upload(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.reply(w, http.StatusOK, jsonType, a)
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request) (envelope.Attachment, error) {
	var none envelope.Attachment
	who, err := s.admit(r, speaking)
	if err == nil {
		err = checkQuery(r, "name")
	}
	if err != nil {
		return none, err
	}
	if limit := s.Home.Config.Limits.Attachment; r.ContentLength > limit {
		return none, api.Errorf(api.TooLarge, "%d bytes are over the limit of %d", r.ContentLength, limit)
	}
	from := &upload{from: r.Body, clock: http.NewResponseController(w)}
	a, err := s.Files.Take(who.agent, r.URL.Query().Get("name"), r.Header.Get("Content-Type"), from)
	switch {
	case errors.Is(from.err, os.ErrDeadlineExceeded):
		return none, api.Errorf(api.TooSlow, "nothing came for %s", bodyTimeout)
	case from.err != nil:
		return none, api.Errorf(api.BadRequest, "the body breaks off: %w", from.err)
	}
	return a, err
}

// upload is a body of any length, which ends where the client sends nothing.
type upload struct {
	from  io.Reader
	clock *http.ResponseController
	err   error // of the client, and not of the disk
}

func (u *upload) Read(p []byte) (int, error) {
	if err := u.clock.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil {
		return 0, err
	}
	n, err := u.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

// attachment sends a file that a message mentions, for a program and never for a browser
// to show.
func (s *Server) attachment(w http.ResponseWriter, r *http.Request) {
	f, called, err := s.attachedFile(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer f.Close()
	for name, value := range map[string]string{
		"Content-Type": dataType, "Content-Disposition": disposition(called), "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "private, immutable", "ETag": `"` + r.PathValue("sha256") + `"`,
	} {
		w.Header().Set(name, value)
	}
	http.ServeContent(patient{w}, r, "", time.Time{}, f)
}

// disposition says that a browser saves an answer, and under which name (RFC 6266). Those
// who do not know the second form have the first.
func disposition(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r > '~' || r == '"' || r == '%' {
			return '_'
		}
		return r
	}, name)
	return `attachment; filename="` + plain + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}

const maxFileName = 255 // bytes

// attachedFile opens a file that a message mentions, and tells what it is called when it is
// saved.
func (s *Server) attachedFile(r *http.Request) (*os.File, string, error) {
	who, err := s.admit(r, reading)
	if err == nil {
		err = checkQuery(r, "message", "name")
	}
	if err != nil {
		return nil, "", err
	}
	sum, ref, name := r.PathValue("sha256"), r.URL.Query().Get("message"), r.URL.Query().Get("name")
	if len(name) > maxFileName {
		return nil, "", api.Errorf(api.BadRequest, "name: want at most %d bytes, got %d", maxFileName, len(name))
	}
	from, a, err := s.bringing(r.Context(), who, sum, ref)
	if err != nil {
		return nil, "", err
	}
	f, err := s.Files.Open(sum)
	if missing := new(api.Error); !errors.As(err, &missing) || missing.Code != api.AttachmentNotFound {
		return f, frame.FileName(cmp.Or(name, a.Name)), err
	}
	return nil, "", s.Files.Absent(a, s.sources(r.Context(), from)...)
}

// brought is what a message or a call brings.
type brought struct {
	files []envelope.Attachment
	from  envelope.Address
	place blob.Source // without a host
}

// bringing refuses a file that no message mentions that the caller may read, in the same
// way as one that is not there. Who may read everything need not name the message.
func (s *Server) bringing(ctx context.Context, who caller, sum, ref string) (brought, envelope.Attachment, error) {
	unknown := envelope.Attachment{Name: sum, SHA256: sum}
	switch {
	case ref == "" && who.own:
		return brought{}, unknown, api.Errorf(api.BadRequest, "say in \"message\" which message or call brings the file")
	case ref == "":
		return brought{}, unknown, nil
	}
	b, err := s.attachedTo(ctx, who, ref)
	if err != nil {
		return b, unknown, err
	}
	i := slices.IndexFunc(b.files, func(a envelope.Attachment) bool { return a.SHA256 == sum })
	if i < 0 {
		return b, unknown, api.Errorf(api.AttachmentNotFound, "%s brings no file with this sum", ref)
	}
	return b, b.files[i], nil
}

// attachedTo tells what a message or a call brings that the caller may read.
func (s *Server) attachedTo(ctx context.Context, who caller, ref string) (brought, error) {
	if found, err := s.requestOf(who, ref); err == nil {
		request, err := s.Switchboard.Get(found.ID)
		return brought{request.Attachments, request.From, blob.Source{Request: request.ID}}, err
	}
	name, seq, ok := maildir.SplitRef(ref)
	if !ok || seq == 0 {
		return brought{}, notMessage(ref)
	}
	id, err := s.conversationOf(ctx, who, name)
	if err != nil {
		return brought{}, err
	}
	m, err := s.Desk.Message(ctx, id, seq)
	if err != nil {
		return brought{}, err
	}
	return brought{m.Envelope.Attachments, m.Envelope.From, blob.Source{Conversation: id, Seq: seq}}, nil
}

// sources are the other hosts that may have what one of them has brought: first that of
// its author, then those that were told of it.
func (s *Server) sources(ctx context.Context, b brought) (list []blob.Source) {
	own := s.Home.Host.Name
	if b.from.Host == "" || strings.EqualFold(b.from.Host, own) {
		return nil
	}
	hosts := []string{strings.ToLower(b.from.Host)}
	if b.place.Conversation != "" {
		state, _ := s.Ledger.State(ctx, b.place.Conversation) // of a damaged log, what there is
		for _, m := range state.Members {
			if host := strings.ToLower(m.Address.Host); host != own && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	for _, host := range hosts {
		from := b.place
		from.Host = host
		list = append(list, from)
	}
	return list
}

// mayAttach refuses to an agent's token a message that mentions a file which the agent has
// not uploaded itself: to know a sum is not to have the file.
func (s *Server) mayAttach(who caller, draft *envelope.Envelope) error {
	if !who.own {
		return nil
	}
	for _, a := range draft.Attachments {
		if !s.Files.Uploaded(who.agent, a.SHA256) {
			return api.Errorf(api.AttachmentNotFound, "%s has not uploaded the file %q in the last day: upload it first", who.agent, a.Name)
		}
	}
	return nil
}
