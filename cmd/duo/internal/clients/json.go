package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// A document is the text of a JSON file, with comments and trailing commas where its
// owner likes them. It is edited as text: what is not ours stays as it is to the byte.
type document struct {
	text []byte
	root hujson.Value
}

// readDocument parses a text. The error names line and column.
func readDocument(text []byte) (*document, error) {
	root, err := hujson.Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "hujson: "))
	}
	if _, ok := root.Value.(*hujson.Object); !ok {
		return nil, errors.New("line 1: want a JSON object")
	}
	return &document{text, root}, nil
}

// form says what a client takes for JSON. What it does not read would do nothing.
type form int

const (
	anyJSON      form = iota // with comments and trailing commas
	withComments             // without trailing commas
	plainJSON
)

// check refuses a text that the client cannot read.
func (f form) check(text []byte) error {
	d, err := readDocument(text)
	if err != nil || f == anyJSON {
		return err
	}
	where := func(offset int, what string) error {
		return fmt.Errorf("line %d: the client reads no %s here", 1+bytes.Count(text[:offset], []byte("\n")), what)
	}
	for v := range d.root.All() {
		list := items(v)
		if len(list) == 0 {
			continue
		}
		last := list[len(list)-1].end
		if comma, _ := scan(text[last : v.EndOffset-1]); comma >= 0 {
			return where(last+comma, "trailing commas")
		}
	}
	standard, err := hujson.Standardize(bytes.Clone(text))
	if err != nil || f == withComments || bytes.Equal(standard, text) {
		return err
	}
	at := 0
	for at < len(text) && standard[at] == text[at] {
		at++
	}
	return where(at, "comments")
}

// find returns the value at a path of names, nil where there is none. depth is how many of
// the names lead to a value that is there.
func (d *document) find(names []string) (found *hujson.Value, depth int) {
	at := &d.root
	for i, name := range names {
		member := memberOf(at, name)
		if member == nil {
			return nil, i
		}
		at = &member.Value
	}
	return at, len(names)
}

// memberOf returns the member with a name, the last one as readers of JSON do.
func memberOf(v *hujson.Value, name string) *hujson.ObjectMember {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil
	}
	for i := range slices.Backward(object.Members) {
		if literal, ok := object.Members[i].Name.Value.(hujson.Literal); ok && literal.String() == name {
			return &object.Members[i]
		}
	}
	return nil
}

// set gives the member at a path of names a value. Objects on the way that are missing are
// made; made names them, and the member where it is new.
func (d *document) set(names []string, value any) (text []byte, made []string, err error) {
	old, depth := d.find(names)
	if old != nil {
		if same(d.text[old.StartOffset:old.EndOffset], encode(value)) {
			return d.text, nil, nil
		}
		return splice(d.text, old.StartOffset, old.EndOffset, d.format(value, d.indentAt(old.StartOffset))), nil, nil
	}
	parent, _ := d.find(names[:depth])
	if _, ok := parent.Value.(*hujson.Object); !ok {
		return nil, nil, fmt.Errorf("%q is not an object", strings.Join(names[:depth], "."))
	}
	for i := len(names) - 1; i > depth; i-- {
		value = wrap{names[i], value}
	}
	for i := depth; i < len(names); i++ {
		made = append(made, pointer(names[:i+1]))
	}
	return d.insert(parent, string(encode(names[depth]))+": ", value), made, nil
}

// add puts an element at the end of the list at a path of names, which is made where it is
// missing.
func (d *document) add(names []string, element any) (text []byte, made []string, err error) {
	list, _ := d.find(names)
	if list == nil {
		return d.set(names, []any{element})
	}
	if _, ok := list.Value.(*hujson.Array); !ok {
		return nil, nil, fmt.Errorf("%q is not a list", strings.Join(names, "."))
	}
	return d.insert(list, "", element), nil, nil
}

// wrap is an object with one member.
type wrap struct {
	name  string
	value any
}

// MarshalJSON writes the object.
func (w wrap) MarshalJSON() ([]byte, error) {
	return slices.Concat([]byte("{"), encode(w.name), []byte(":"), encode(w.value), []byte("}")), nil
}

// encode writes a value of ours, which always can be written.
func encode(value any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(fmt.Sprintf("encode %T: %v", value, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// span is where an item of an object or a list stands, without comments and spaces.
type span struct{ start, end int }

func items(v *hujson.Value) []span {
	var list []span
	switch c := v.Value.(type) {
	case *hujson.Object:
		for _, m := range c.Members {
			list = append(list, span{m.Name.StartOffset, m.Value.EndOffset})
		}
	case *hujson.Array:
		for _, e := range c.Elements {
			list = append(list, span{e.StartOffset, e.EndOffset})
		}
	}
	return list
}

// insert puts a value, with its name before it in an object, behind the last item of an
// object or a list, in the manner of that one.
func (d *document) insert(into *hujson.Value, name string, value any) []byte {
	list := items(into)
	last := into.StartOffset + 1
	if len(list) > 0 {
		last = list[len(list)-1].end
	}
	end := into.EndOffset - 1
	comma, comments := scan(d.text[last:end])
	at := last + max(comma+1, comments)

	indent, lines := d.mannerOf(into, list)
	before, body, after := d.newline()+indent, name, ""
	if lines {
		body += d.format(value, indent)
	} else {
		body += spaced(encode(value))
	}
	switch {
	case !lines && endsLine(d.text[last:at]): // the comment would swallow it
	case !lines && len(list) == 0:
		before = ""
	case !lines:
		before = " "
	case len(list) == 0 && !bytes.Contains(d.text[at:end], []byte("\n")):
		after = d.newline() + d.indentAt(into.StartOffset)
	}
	if comma >= 0 {
		body += ","
	}
	out := splice(d.text, at, at, before+body+after)
	if len(list) > 0 && comma < 0 {
		out = splice(out, last, last, ",")
	}
	return out
}

// mannerOf tells how the items of an object or a list are written: each on a line of its
// own, and behind which spaces.
func (d *document) mannerOf(v *hujson.Value, list []span) (indent string, lines bool) {
	if len(list) == 0 {
		return d.indentAt(v.StartOffset) + d.unit(), d.hasLines()
	}
	last := list[len(list)-1].start
	begin := bytes.LastIndexByte(d.text[:last], '\n') + 1
	if before := d.text[begin:last]; begin > v.StartOffset && len(bytes.Trim(before, " \t")) == 0 {
		return string(before), true
	}
	return "", false
}

// hasLines reports whether the document is written on several lines, as a new one is.
func (d *document) hasLines() bool {
	return len(items(&d.root)) == 0 || bytes.Contains(bytes.TrimSpace(d.text), []byte("\n"))
}

// indentAt is the space at the beginning of the line on which an offset is.
func (d *document) indentAt(offset int) string {
	line := d.text[bytes.LastIndexByte(d.text[:offset], '\n')+1 : offset]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// unit is the space by which the document sets in.
func (d *document) unit() string {
	if list := items(&d.root); len(list) > 0 {
		if indent, lines := d.mannerOf(&d.root, list); lines && indent != "" {
			return indent
		}
	}
	return "  "
}

func (d *document) newline() string {
	if i := bytes.IndexByte(d.text, '\n'); i > 0 && d.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// format writes a value as the document does, behind the indent of its first line.
func (d *document) format(value any, indent string) string {
	if !d.hasLines() {
		return spaced(encode(value))
	}
	var b bytes.Buffer
	_ = json.Indent(&b, encode(value), indent, d.unit()) // it is JSON
	return strings.ReplaceAll(b.String(), "\n", d.newline())
}

// spaced writes compact JSON with a space behind each colon and comma.
func spaced(compact []byte) string {
	var out []byte
	quoted := false
	for i, c := range compact {
		out = append(out, c)
		switch {
		case c == '"' && (i == 0 || !escaped(compact[:i])):
			quoted = !quoted
		case !quoted && (c == ':' || c == ','):
			out = append(out, ' ')
		}
	}
	return string(out)
}

func escaped(before []byte) bool {
	return (len(before)-len(bytes.TrimRight(before, `\`)))%2 == 1
}

// remove takes the member at a path of names out.
func (d *document) remove(names []string) []byte {
	parent, _ := d.find(names[:len(names)-1])
	if parent == nil {
		return d.text
	}
	member := memberOf(parent, names[len(names)-1])
	if member == nil {
		return d.text
	}
	i := slices.IndexFunc(items(parent), func(s span) bool { return s.start == member.Name.StartOffset })
	return d.cut(parent, i)
}

// cut takes an item out of an object or a list, with the comma and the space that came
// with it. Comments stay.
func (d *document) cut(from *hujson.Value, i int) []byte {
	list := items(from)
	before := from.StartOffset + 1
	if i > 0 {
		before = list[i-1].end
	}
	after := from.EndOffset - 1
	if i+1 < len(list) {
		after = list[i+1].start
	}
	left, comments := scan(d.text[before:list[i].start])
	right, _ := scan(d.text[list[i].end:after])
	start := before + max(left+1, comments)

	out := d.text
	if right >= 0 {
		out = splice(out, list[i].end+right, list[i].end+right+1, "")
	}
	out = splice(out, start, list[i].end, "")
	if right < 0 && i > 0 {
		out = splice(out, before+left, before+left+1, "")
	}
	open, end := from.StartOffset+1, from.EndOffset-1-(len(d.text)-len(out))
	if len(list) == 1 && len(bytes.TrimSpace(out[open:end])) == 0 {
		out = splice(out, open, end, "")
	}
	return out
}

// scan looks at what stands between two items: where the comma is, -1 for none, and where
// the last comment ends, 0 for none. The end of a line is no part of a comment.
func scan(text []byte) (comma, comments int) {
	comma = -1
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case bytes.HasPrefix(rest, []byte("//")):
			n := bytes.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			i += n
			comments = i - (n - len(bytes.TrimSuffix(rest[:n], []byte("\r"))))
		case bytes.HasPrefix(rest, []byte("/*")):
			i += bytes.Index(rest, []byte("*/")) + 2
			comments = i
		default:
			if text[i] == ',' {
				comma = i
			}
			i++
		}
	}
	return comma, comments
}

// endsLine reports whether a text ends in a comment that goes to the end of its line.
func endsLine(text []byte) bool {
	line := text[bytes.LastIndexByte(text, '\n')+1:]
	return bytes.Contains(line, []byte("//")) && !bytes.HasSuffix(line, []byte("*/"))
}

// splice puts a text in place of what stands between two offsets.
func splice(text []byte, start, end int, with string) []byte {
	return slices.Concat(text[:start], []byte(with), text[end:])
}

// pointer names a place in a document as RFC 6901 does.
func pointer(names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	return b.String()
}

// same reports whether two texts are the same JSON.
func same(a, b []byte) bool {
	x, errX := plain(a)
	y, errY := plain(b)
	return errX == nil && errY == nil && bytes.Equal(encode(x), encode(y))
}

// plain is the value of a document without comments, with its numbers as they are written.
func plain(text []byte) (any, error) {
	standard, err := hujson.Standardize(bytes.Clone(text))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(standard))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	return value, nil
}

// pruned is a value without the objects and lists that have nothing in them.
func pruned(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if member = pruned(member); member == nil {
				delete(v, name)
			} else {
				v[name] = member
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
	}
	return value
}
