package httpd

import (
	"net/http"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/export"
)

// export sends a conversation as a download. Where that fails in the middle, the
// connection breaks, as that of a transcript does.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	who, err := s.admit(r, reading)
	id := ""
	if err == nil {
		id, err = s.conversationOf(r.Context(), who, r.PathValue("ref"))
	}
	format := export.Format("")
	if err == nil {
		format, err = formatOf(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	name := s.Ledger.Refs().Short(id) + format.Extension()
	out := &download{to: patient{w}, headers: map[string]string{
		"Content-Type": format.MediaType(), "Content-Disposition": `attachment; filename="` + name + `"`, "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-store",
	}}
	_, err = export.Write(r.Context(), out, s.Home, []string{id}, format)
	switch {
	case err != nil && !out.begun:
		s.fail(w, r, err)
	case err != nil:
		s.Logger.Warn("export ends early", "conv", id, "err", err)
		_ = http.NewResponseController(w).Flush() // the client may be what has failed
		panic(http.ErrAbortHandler)
	}
}

func formatOf(r *http.Request) (export.Format, error) {
	if err := checkQuery(r, "format"); err != nil {
		return "", err
	}
	switch format := export.Format(r.URL.Query().Get("format")); format {
	case "":
		return export.JSONL, nil
	case export.JSONL, export.Mbox, export.Markdown, export.HTML:
		return format, nil
	default:
		return "", api.Errorf(api.BadRequest, "format: want jsonl, mbox, markdown or html, got %.100q", format)
	}
}

// download is an answer whose headers are sent with its first bytes.
type download struct {
	to      patient
	headers map[string]string
	begun   bool
}

func (d *download) Write(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		for name, value := range d.headers {
			d.to.Header().Set(name, value)
		}
	}
	return d.to.Write(p)
}
