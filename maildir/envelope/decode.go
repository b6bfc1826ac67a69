package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Decode reads one envelope. It refuses what two readers could understand in two
// ways: a name twice at any depth, invalid UTF-8, half surrogates, a number where
// a text belongs. It does not ask for completeness; see Validate and Check.
// Errors wrap ErrInvalid. The envelope keeps nothing of data.
func Decode(data []byte) (*Envelope, error) {
	if len(data) > MaxLine {
		return nil, fmt.Errorf("%w: %d bytes are over the limit of %d", ErrInvalid, len(data), MaxLine)
	}
	e := new(Envelope)
	if err := Members(data, e.set); err != nil {
		return nil, err
	}
	return e, nil
}

var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(bytes.NewReader(nil)) }}

const blanks = " \t\r\n" // of JSON

// Members calls each with the name and the value of every member of the JSON
// object that data holds, in order, under the strict rules of Decode. The value is
// valid only during the call.
func Members(data []byte, each func(name string, value json.RawMessage) error) error {
	dec := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(data))
	if dec.PeekKind() != '{' {
		if len(bytes.TrimLeft(data, blanks)) == 0 {
			return fmt.Errorf("%w: it is empty, want a JSON object", ErrInvalid)
		}
		if _, err := dec.ReadValue(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return fmt.Errorf("%w: want a JSON object", ErrInvalid)
	}
	if _, err := dec.ReadToken(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return fmt.Errorf("%w: field %q: %w", ErrInvalid, clip(name), err)
		}
		if depth(value)+1 > MaxDepth { // the object itself is the first level
			return invalid(clip(name), "is nested deeper than %d", MaxDepth)
		}
		if err := each(name, json.RawMessage(value)); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if rest := bytes.TrimLeft(dec.UnreadBuffer(), blanks); len(rest) > 0 {
		return fmt.Errorf("%w: more than one JSON value", ErrInvalid)
	}
	return nil
}

// depth counts the nesting of a valid JSON value.
func depth(value []byte) (deepest int) {
	if value[0] != '{' && value[0] != '[' {
		return 0
	}
	level, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

func (e *Envelope) set(name string, value json.RawMessage) (err error) {
	switch name {
	case "seq":
		e.Seq, err = integer(name, value)
	case "id":
		e.ID, err = id(name, value)
	case "type":
		var s string
		s, err = text(name, value)
		e.Type = Type(s)
	case "event":
		e.Event, err = text(name, value)
	case "from":
		e.From, err = address(name, value)
	case "conversation":
		e.Conversation, err = looseID(name, value)
	case "timestamp":
		e.Timestamp, err = integer(name, value)
	case "after":
		e.After, err = optionalInteger(name, value)
	case "to":
		e.To, err = texts(name, value)
	case "replyTo":
		e.ReplyTo, err = ref(name, value)
	case "topic":
		e.Topic, err = text(name, value)
	case "mode":
		e.Mode, err = text(name, value)
	case "open":
		e.Open, err = boolean(name, value)
	case "turnLimit":
		e.TurnLimit, err = integer(name, value)
	case "origin":
		e.Origin, err = text(name, value)
	case "participants":
		e.Participants, err = addresses(name, value)
	case "hosts":
		e.Hosts, err = hosts(name, value)
	case "about":
		e.About, err = looseID(name, value)
	case "why":
		e.Why, err = text(name, value)
	case "reason":
		e.Reason, err = text(name, value)
	case "request":
		e.Request, err = looseID(name, value)
	case "status":
		e.Status, err = text(name, value)
	case "busy":
		e.Busy, err = boolean(name, value)
	case "ringUntil":
		e.RingUntil, err = integer(name, value)
	case "until":
		e.Until, err = integer(name, value)
	case "operator":
		e.Operator, err = boolean(name, value)
	case "auto":
		e.Auto, err = boolean(name, value)
	case "hops":
		e.Hops, err = integer(name, value)
	case "raw":
		e.Raw, err = optionalInteger(name, value)
	case "content":
		e.Content, err = text(name, value)
	case "data":
		e.Data = compact(value)
	case "attachments":
		e.Attachments, err = attachments(name, value)
	case "signature":
		e.Signature, err = text(name, value)
	default:
		if len(e.Unknown) == maxUnknown {
			return invalid(clip(name), "more than %d unknown fields", maxUnknown)
		}
		e.Unknown = append(e.Unknown, Field{Name: name, Value: compact(value)})
	}
	return err
}

func compact(value json.RawMessage) json.RawMessage {
	v := jsontext.Value(bytes.Clone(value))
	if v.Compact(jsontext.PreserveRawStrings(true)) != nil {
		return json.RawMessage("null") // cannot happen: the value was read as JSON
	}
	return json.RawMessage(v)
}

func text(name string, value json.RawMessage) (string, error) {
	if value[0] != '"' {
		return "", invalid(name, "want a text, got %s", clip(string(value)))
	}
	b, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "", invalid(name, "%v", err)
	}
	return string(b), nil
}

func integer(name string, value json.RawMessage) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || value[0] == '-' || n > MaxInt {
		return 0, invalid(name, "want an integer from 0 to 2^53-1, got %s", clip(string(value)))
	}
	return n, nil
}

func optionalInteger(name string, value json.RawMessage) (*int64, error) {
	n, err := integer(name, value)
	if err != nil {
		return nil, err
	}
	return &n, nil
}

func boolean(name string, value json.RawMessage) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid(name, "want true or false, got %s", clip(string(value)))
}

func id(name string, value json.RawMessage) (string, error) {
	s, err := text(name, value)
	if err != nil {
		return "", err
	}
	parsed, err := ParseID(s)
	if err != nil {
		return "", invalid(name, "%v", err)
	}
	return parsed, nil
}

// looseID reads a text that names something by its id. Where it is no id, what it
// means is for others to say.
func looseID(name string, value json.RawMessage) (string, error) {
	s, err := text(name, value)
	if parsed, e := ParseID(s); e == nil {
		return parsed, err
	}
	return s, err
}

func address(name string, value json.RawMessage) (Address, error) {
	s, err := text(name, value)
	if err != nil {
		return Address{}, err
	}
	a, err := ParseAddress(s)
	if err != nil {
		return Address{}, invalid(name, "%v", err)
	}
	return a, nil
}

// texts reads a text or an array of texts.
func texts(name string, value json.RawMessage) ([]string, error) {
	if value[0] == '"' {
		s, err := text(name, value)
		return []string{s}, err
	}
	var list []string
	err := elements(name, value, func(v json.RawMessage) error {
		s, err := text(name, v)
		list = append(list, s)
		return err
	})
	return list, err
}

func addresses(name string, value json.RawMessage) ([]Address, error) {
	var list []Address
	err := elements(name, value, func(v json.RawMessage) error {
		a, err := address(name, v)
		list = append(list, a)
		return err
	})
	return list, err
}

// hosts reads an object whose members are texts, which is of bounded length.
func hosts(name string, value json.RawMessage) (list map[string]string, err error) {
	if value[0] != '{' {
		return nil, invalid(name, "want an object, got %s", clip(string(value)))
	}
	err = Members(value, func(host string, v json.RawMessage) error {
		if len(list) == MaxRecipients {
			return invalid(name, "more than %d members", MaxRecipients)
		}
		id, err := text(name, v)
		if err == nil && list == nil {
			list = make(map[string]string)
		}
		if err == nil {
			list[host] = id
		}
		return err
	})
	return list, err
}

func attachments(name string, value json.RawMessage) ([]Attachment, error) {
	var list []Attachment
	err := elements(name, value, func(v json.RawMessage) error {
		a, err := attachment(name, v)
		list = append(list, a)
		return err
	})
	return list, err
}

func attachment(name string, value json.RawMessage) (a Attachment, err error) {
	err = Members(value, func(member string, v json.RawMessage) (err error) {
		switch member {
		case "name":
			a.Name, err = text(name, v)
		case "mediaType":
			a.MediaType, err = text(name, v)
		case "size":
			a.Size, err = integer(name, v)
		case "sha256":
			a.SHA256, err = text(name, v)
		}
		return err
	})
	return a, err
}

func ref(name string, value json.RawMessage) (Ref, error) {
	if value[0] != '"' {
		n, err := integer(name, value)
		return Ref{Seq: n}, err
	}
	s, err := looseID(name, value)
	return Ref{ID: s}, err
}

// elements calls each with every element of a JSON array, which is of bounded length:
// a short element takes more room in memory than on the line.
func elements(name string, value json.RawMessage, each func(json.RawMessage) error) error {
	if value[0] != '[' {
		return invalid(name, "want a list, got %s", clip(string(value)))
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(value))
	if _, err := dec.ReadToken(); err != nil {
		return invalid(name, "%v", err)
	}
	for n := 0; dec.PeekKind() != ']'; n++ {
		if n == MaxRecipients {
			return invalid(name, "more than %d elements", MaxRecipients)
		}
		v, err := dec.ReadValue()
		if err != nil {
			return invalid(name, "%v", err)
		}
		if err := each(json.RawMessage(v)); err != nil {
			return err
		}
	}
	return nil
}
