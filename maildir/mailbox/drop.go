package mailbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/maildir/envelope"
)

const byteOrderMark = "\ufeff"

// ParseDrop reads what an agent has put into its outbox: JSON in a .json file, or
// header lines and a body in a .md or .txt file. The result is a draft: it is not
// stamped, and From is not to be believed. A type that is absent is "message".
func ParseDrop(name string, data []byte) (*envelope.Envelope, error) {
	var e *envelope.Envelope
	var err error
	switch path.Ext(name) {
	case ".json":
		e, err = parseJSONDrop(data)
	case ".md", ".txt":
		e, err = parseTextDrop(data)
	default:
		return nil, fmt.Errorf("the name ends in %q: want .json, .md or .txt", path.Ext(name))
	}
	if err != nil {
		return nil, err
	}
	if e.Type == "" {
		e.Type = envelope.Message
	}
	e.Seq, e.Timestamp, e.Raw = 0, 0, nil
	return e, nil
}

func parseJSONDrop(data []byte) (*envelope.Envelope, error) {
	e, err := envelope.Decode(bytes.TrimPrefix(data, []byte(byteOrderMark)))
	if err != nil {
		return nil, err
	}
	e.Unknown = slices.DeleteFunc(e.Unknown, func(f envelope.Field) bool {
		return f.Name == "error" || f.Name == "near"
	})
	if e.Content == "" && (e.Type == "" || e.Type == envelope.Message) {
		for _, f := range e.Unknown {
			if slices.Contains([]string{"body", "text", "message", "msg"}, strings.ToLower(f.Name)) {
				return nil, fmt.Errorf("%w: the text belongs into the field \"content\", not %q", envelope.ErrInvalid, f.Name)
			}
		}
	}
	return e, nil
}

// headers are the header lines of a text drop, in lower case.
var headers = map[string]func(e *envelope.Envelope, value string) error{
	"to":           func(e *envelope.Envelope, v string) error { e.To = append(e.To, names(v)...); return nil },
	"type":         func(e *envelope.Envelope, v string) error { e.Type = envelope.Type(v); return nil },
	"topic":        func(e *envelope.Envelope, v string) error { e.Topic = v; return nil },
	"subject":      func(e *envelope.Envelope, v string) error { e.Topic = v; return nil },
	"conversation": func(e *envelope.Envelope, v string) error { e.Conversation = looseID(v); return nil },
	"mode":         func(e *envelope.Envelope, v string) error { e.Mode = v; return nil },
	"request":      func(e *envelope.Envelope, v string) error { e.Request = looseID(v); return nil },
	"status":       func(e *envelope.Envelope, v string) error { e.Status = v; return nil },
	"reason":       func(e *envelope.Envelope, v string) error { e.Reason = v; return nil },
	"from":         func(*envelope.Envelope, string) error { return nil },
	"seq":          func(*envelope.Envelope, string) error { return nil },
	"error":        func(*envelope.Envelope, string) error { return nil },
	"near":         func(*envelope.Envelope, string) error { return nil },
	"id": func(e *envelope.Envelope, v string) (err error) {
		e.ID, err = envelope.ParseID(v)
		return err
	},
	"open": func(e *envelope.Envelope, v string) (err error) {
		e.Open, err = strconv.ParseBool(v)
		return err
	},
	"busy": func(e *envelope.Envelope, v string) (err error) {
		e.Busy, err = strconv.ParseBool(v)
		return err
	},
	"auto": func(e *envelope.Envelope, v string) (err error) {
		e.Auto, err = strconv.ParseBool(v)
		return err
	},
	"turn-limit": func(e *envelope.Envelope, v string) (err error) {
		e.TurnLimit, err = integer(v)
		return err
	},
	"after": func(e *envelope.Envelope, v string) error {
		n, err := integer(v)
		e.After = &n
		return err
	},
	"attach": func(e *envelope.Envelope, v string) error {
		value, err := json.Marshal(v)
		e.Unknown = append(e.Unknown, envelope.Field{Name: attachField, Value: value})
		return err
	},
	"reply-to": func(e *envelope.Envelope, v string) error {
		if n, err := integer(v); err == nil {
			e.ReplyTo = envelope.Ref{Seq: n}
		} else {
			e.ReplyTo = envelope.Ref{ID: looseID(v)}
		}
		return nil
	},
}

// integer reads what the same field of a JSON drop could hold.
func integer(v string) (int64, error) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n > envelope.MaxInt {
		return 0, fmt.Errorf("want an integer from 0 to 2^53-1, got %q", clip(v))
	}
	return int64(n), nil
}

// looseID writes an id in lower case, and leaves a reference as it is.
func looseID(v string) string {
	if id, err := envelope.ParseID(v); err == nil {
		return id
	}
	return v
}

// HeaderNames lists the header lines that text drops know, for error messages.
func HeaderNames() []string {
	list := make([]string, 0, len(headers))
	for name := range headers {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

func parseTextDrop(data []byte) (*envelope.Envelope, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: not valid UTF-8", envelope.ErrInvalid)
	}
	rest := strings.TrimPrefix(string(data), byteOrderMark)
	e := new(envelope.Envelope)
	for number := 1; ; number++ {
		line, after, ended := strings.Cut(rest, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			if !ended && number == 1 {
				return nil, fmt.Errorf("%w: the file is empty", envelope.ErrInvalid)
			}
			e.Content = after
			break
		}
		if err := setHeader(e, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if rest = after; !ended {
			break
		}
	}
	return e, nil
}

func setHeader(e *envelope.Envelope, line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return fmt.Errorf("%w: want a header line like \"To: Nova\", or an empty line before the body; got %q", envelope.ErrInvalid, clip(line))
	}
	set, known := headers[strings.ToLower(strings.TrimSpace(name))]
	if !known {
		return fmt.Errorf("%w: unknown header %q; known are %s", envelope.ErrInvalid, clip(name), strings.Join(HeaderNames(), ", "))
	}
	if err := set(e, strings.TrimSpace(value)); err != nil {
		return fmt.Errorf("%w: header %q: %w", envelope.ErrInvalid, name, err)
	}
	return nil
}

// cutHeader cuts the first line off a text where that is a header line that is known.
// The name is in lower case; the value is empty where ok is false.
func cutHeader(text string) (name, value, rest string, ok bool) {
	line, rest, _ := strings.Cut(text, "\n")
	name, value, _ = strings.Cut(line, ":")
	name = strings.ToLower(strings.TrimSpace(name))
	if _, ok = headers[name]; !ok || !strings.Contains(line, ":") {
		return "", "", "", false
	}
	return name, strings.TrimSpace(value), rest, true
}

// names splits "Nova, Sage".
func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

// Stamp is what a drop gets written into it when it leaves the outbox.
type Stamp struct {
	Conversation string   `json:"conversation,omitempty"`
	Seq          int64    `json:"seq,omitempty"`
	ID           string   `json:"id,omitempty"`
	Request      string   `json:"request,omitempty"` // of a call, and what answers one
	Status       string   `json:"status,omitempty"`  // how far that is
	Queued       bool     `json:"queued,omitempty"`  // it waits for the host that orders the conversation
	Error        string   `json:"error,omitempty"`
	Near         []string `json:"near,omitempty"` // valid names like the one that is not
}

// apply writes the stamp into a drop, in place of an older one. It reports false where
// the drop is neither JSON nor text that can hold one, or was not read.
func (s Stamp) apply(name string, data []byte) ([]byte, bool) {
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	switch ext := path.Ext(name); {
	case ext == ".json":
		return s.applyJSON(data)
	case (ext == ".md" || ext == ".txt") && data != nil && utf8.Valid(data):
		return s.applyText(string(data)), true
	}
	return nil, false
}

func (s Stamp) applyText(text string) []byte {
	var b bytes.Buffer
	old := map[string]bool{"error": true, "near": true}
	line := func(name, value string) {
		if value != "" {
			value = strings.ToValidUTF8(strings.ReplaceAll(value, "\n", " "), "\ufffd")
			fmt.Fprintf(&b, "%s: %s\n", name, value)
			old[strings.ToLower(name)] = true
		}
	}
	line("Conversation", s.Conversation)
	if s.Seq > 0 {
		line("Seq", strconv.FormatInt(s.Seq, 10))
	}
	line("Id", s.ID)
	line("Request", s.Request)
	line("Status", s.Status)
	line("Error", s.Error)
	line("Near", strings.Join(s.Near, ", "))
	for {
		name, _, rest, ok := cutHeader(text)
		if !ok {
			break
		}
		if !old[name] {
			b.WriteString(text[:len(text)-len(rest)])
		}
		text = rest
	}
	b.WriteString(text)
	return b.Bytes()
}

func (s Stamp) applyJSON(data []byte) ([]byte, bool) {
	stamp, err := json.Marshal(s)
	if err != nil {
		return nil, false
	}
	var fields [][]byte
	old := map[string]bool{"error": true, "near": true}
	_ = envelope.Members(stamp, func(name string, _ json.RawMessage) error {
		old[name] = true
		return nil
	})
	keep := func(name string, value json.RawMessage) error {
		if old[name] {
			return nil
		}
		key, err := json.Marshal(name)
		fields = append(fields, slices.Concat(key, []byte{':'}, value))
		return err
	}
	if err := envelope.Members(data, keep); err != nil {
		return nil, false
	}
	if fresh := stamp[1 : len(stamp)-1]; len(fresh) > 0 {
		fields = append(fields, fresh)
	}
	return slices.Concat([]byte{'{'}, bytes.Join(fields, []byte{','}), []byte("}\n")), true
}

// stampedError is the error that a stamp has left in a drop.
func stampedError(name string, data []byte) (reason string) {
	if path.Ext(name) != ".json" {
		name, value, text, ok := cutHeader(string(data))
		for ok && name != "error" {
			name, value, text, ok = cutHeader(text)
		}
		return value
	}
	_ = envelope.Members(data, func(field string, value json.RawMessage) error {
		if field == "error" {
			return json.Unmarshal(value, &reason)
		}
		return nil
	})
	return reason
}
