package envelope

import (
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Append adds the envelope to dst as JSON on one line, without a newline: seq
// first when there is one, then id and type, unknown fields behind the known ones and
// the signature last.
func (e *Envelope) Append(dst []byte) []byte {
	w := writer{buf: append(dst, '{'), first: true}
	if e.Seq != 0 {
		w.int("seq", e.Seq)
	}
	e.head(&w)
	w.nonZero("timestamp", e.Timestamp)
	e.tail(&w)
	return append(w.buf, '}')
}

// AppendDraft adds the envelope to dst as Append does, but without seq and
// timestamp. A stamped line has the seq behind the opening brace, and the timestamp,
// with a comma before it, at the offset stamp of what was added.
func (e *Envelope) AppendDraft(dst []byte) (line []byte, stamp int) {
	w := writer{buf: append(dst, '{'), first: true}
	e.head(&w)
	stamp = len(w.buf) - len(dst)
	e.tail(&w)
	return append(w.buf, '}'), stamp
}

// head writes what stands between seq and timestamp.
func (e *Envelope) head(w *writer) {
	w.text("id", e.ID)
	w.text("type", string(e.Type))
	w.text("event", e.Event)
	w.text("from", e.From.String())
	w.text("conversation", e.Conversation)
}

// tail writes what stands behind timestamp.
func (e *Envelope) tail(w *writer) {
	w.optional("after", e.After)
	w.list("to", e.To)
	if e.ReplyTo.ID != "" {
		w.text("replyTo", e.ReplyTo.ID)
	} else {
		w.nonZero("replyTo", e.ReplyTo.Seq)
	}
	w.text("topic", e.Topic)
	w.text("mode", e.Mode)
	w.flag("open", e.Open)
	w.nonZero("turnLimit", e.TurnLimit)
	w.text("origin", e.Origin)
	w.addresses("participants", e.Participants)
	w.hosts(e.Hosts)
	w.text("about", e.About)
	w.text("why", e.Why)
	w.text("reason", e.Reason)
	w.text("request", e.Request)
	w.text("status", e.Status)
	w.flag("busy", e.Busy)
	w.nonZero("ringUntil", e.RingUntil)
	w.nonZero("until", e.Until)
	w.flag("operator", e.Operator)
	w.flag("auto", e.Auto)
	w.nonZero("hops", e.Hops)
	w.optional("raw", e.Raw)
	if e.Content != "" || e.Type == Message {
		w.name("content")
		w.quote(e.Content)
	}
	if len(e.Data) > 0 {
		w.name("data")
		w.buf = append(w.buf, e.Data...)
	}
	w.attachments(e.Attachments)
	for _, f := range e.Unknown {
		w.member(f)
	}
	w.text("signature", e.Signature)
}

// Signed is what the host of the author signs: the form in which an envelope crosses,
// without seq, timestamp and signature, behind the name of what it is. Every host that
// has the line can make it again.
func (e *Envelope) Signed() []byte {
	draft := *e
	draft.Signature = ""
	text, _ := draft.AppendDraft([]byte("duo/envelope/1\n"))
	return text
}

// MarshalJSON is Append, so that an envelope nested in a reply of the API has the
// form that it has in the log.
func (e *Envelope) MarshalJSON() ([]byte, error) { return e.Append(nil), nil }

// UnmarshalJSON is Decode.
func (e *Envelope) UnmarshalJSON(data []byte) error {
	d, err := Decode(data)
	if err != nil {
		return err
	}
	*e = *d
	return nil
}

// writer appends the members of one JSON object.
type writer struct {
	buf   []byte
	first bool
}

func (w *writer) separate() {
	if !w.first {
		w.buf = append(w.buf, ',')
	}
	w.first = false
}

// name begins a member with a name that needs no escapes.
func (w *writer) name(name string) {
	w.separate()
	w.buf = append(append(append(w.buf, '"'), name...), `":`...)
}

// member adds a member with any name.
func (w *writer) member(f Field) {
	w.separate()
	w.quote(f.Name)
	w.buf = append(append(w.buf, ':'), f.Value...)
}

func (w *writer) quote(s string) {
	w.buf, _ = jsontext.AppendQuote(w.buf, s) // the error tells of invalid UTF-8, which Check refuses
}

func (w *writer) text(name, value string) {
	if value != "" {
		w.name(name)
		w.quote(value)
	}
}

func (w *writer) int(name string, n int64) {
	w.name(name)
	w.buf = strconv.AppendInt(w.buf, n, 10)
}

func (w *writer) nonZero(name string, n int64) {
	if n != 0 {
		w.int(name, n)
	}
}

func (w *writer) optional(name string, n *int64) {
	if n != nil {
		w.int(name, *n)
	}
}

func (w *writer) flag(name string, set bool) {
	if set {
		w.name(name)
		w.buf = append(w.buf, "true"...)
	}
}

func (w *writer) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.name(name)
	for i, v := range values {
		w.buf = append(w.buf, "[,"[min(i, 1)])
		w.quote(v)
	}
	w.buf = append(w.buf, ']')
}

func (w *writer) addresses(name string, values []Address) {
	texts := make([]string, len(values))
	for i, a := range values {
		texts[i] = a.String()
	}
	w.list(name, texts)
}

// hosts writes names and ids in the order of the names.
func (w *writer) hosts(list map[string]string) {
	if len(list) == 0 {
		return
	}
	w.name("hosts")
	inner := writer{buf: append(w.buf, '{'), first: true}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		inner.separate()
		inner.quote(name)
		inner.buf = append(inner.buf, ':')
		inner.quote(list[name])
	}
	w.buf = append(inner.buf, '}')
}

func (w *writer) attachments(list []Attachment) {
	if len(list) == 0 {
		return
	}
	w.name("attachments")
	for i, a := range list {
		w.buf = append(w.buf, "[,"[min(i, 1)])
		inner := writer{buf: append(w.buf, '{'), first: true}
		inner.text("name", a.Name)
		inner.text("mediaType", a.MediaType)
		inner.int("size", a.Size)
		inner.text("sha256", a.SHA256)
		w.buf = append(inner.buf, '}')
	}
	w.buf = append(w.buf, ']')
}
