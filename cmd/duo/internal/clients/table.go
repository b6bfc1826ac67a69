package clients

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// table is a table of ours in a TOML file, which is edited as text: its header and its lines,
// each a key and its value. When it goes, tables below it go with it.
type table struct {
	name  []string
	lines []string
	also  bool // the table may be another's: only our line is ours
}

func (t table) header() string { return "[" + strings.Join(t.name, ".") + "]" }

func (t table) empty(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

// readTOML parses a text. The error names line and column.
func readTOML(text []byte) (map[string]any, error) {
	var values map[string]any
	err := toml.Unmarshal(text, &values)
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, column := bad.Position()
		return nil, fmt.Errorf("line %d, column %d: %s", line, column, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	if values == nil {
		values = map[string]any{}
	}
	return values, err
}

// at is the value at a path of names, nil where there is none.
func at(values map[string]any, names []string) any {
	var found any = values
	for _, name := range names {
		inner, ok := found.(map[string]any)
		if !ok {
			return nil
		}
		found = inner[name]
	}
	return found
}

func (t table) put(text []byte) ([]byte, []string, error) {
	values, err := readTOML(text)
	if err != nil {
		return nil, nil, err
	}
	var ours map[string]any
	if err := toml.Unmarshal([]byte(strings.Join(t.lines, "\n")), &ours); err != nil {
		return nil, nil, fmt.Errorf("write %s: %w", t.header(), err)
	}
	var made []string
	there := at(values, t.name)
	found, isTable := there.(map[string]any)
	lines := splitLines(text)
	start, end := t.find(lines)
	switch {
	case there == nil:
		text, made = t.append(text), []string{pointer(t.name)}
	case isTable && t.isIn(found, ours):
		return text, nil, nil
	case start < 0 || !isTable:
		return nil, nil, fmt.Errorf("%s is written in another form than a table of its own; take it out, or write into it: %s", t.header(), strings.Join(t.lines, ", "))
	case t.also:
		for key := range ours {
			if found[key] != nil {
				return nil, nil, fmt.Errorf("%s has %s already: add to it what stands in %s, and install again", t.header(), key, strings.Join(t.lines, ", "))
			}
		}
		text = join(slices.Insert(lines, start+1, t.withNewline(text)...))
	case !isServer(found):
		return nil, nil, fmt.Errorf("%s is something else than duo", t.header())
	default:
		text = join(slices.Replace(lines, start+1, end, t.update(lines[start+1:end], text)...))
	}
	return text, made, t.verify(text, values, ours)
}

// isIn reports whether a table says what ours does. In a table of another's a list may hold
// more than ours.
func (t table) isIn(found, ours map[string]any) bool {
	if !t.also {
		return holds(found, ours)
	}
	for key, value := range ours {
		theirs, isList := found[key].([]any)
		wanted, _ := value.([]any)
		for _, one := range wanted {
			if !slices.Contains(theirs, one) {
				return false
			}
		}
		if !isList && !reflect.DeepEqual(found[key], value) {
			return false
		}
	}
	return true
}

// verify makes sure that a text says what it said before, and what is ours.
func (t table) verify(text []byte, before, ours map[string]any) error {
	after, err := readTOML(text)
	if err != nil {
		return fmt.Errorf("%s does not fit in: %w", t.header(), err)
	}
	found, _ := at(after, t.name).(map[string]any)
	if !holds(found, ours) {
		return fmt.Errorf("%s does not fit in", t.header())
	}
	return t.onlyDiffers(before, after)
}

// onlyDiffers makes sure that nothing but the table differs.
func (t table) onlyDiffers(before, after map[string]any) error {
	if !reflect.DeepEqual(t.without(before), t.without(after)) {
		return fmt.Errorf("%s cannot be changed without changing something else; do it by hand", t.header())
	}
	return nil
}

// without is a copy of values in which the table is not.
func (t table) without(values map[string]any) any {
	var copied func(v any, names []string) any
	copied = func(v any, names []string) any {
		inner, ok := v.(map[string]any)
		if !ok {
			return v
		}
		out := make(map[string]any)
		for name, member := range inner {
			switch {
			case len(names) == 0 || name != names[0]:
				out[name] = member
			case len(names) > 1:
				member = copied(member, names[1:])
				if m, ok := member.(map[string]any); !ok || len(m) > 0 {
					out[name] = member
				}
			}
		}
		return out
	}
	return copied(values, t.name)
}

// holds reports whether a table has our keys as we write them.
func holds(found, ours map[string]any) bool {
	for key, value := range ours {
		if !reflect.DeepEqual(found[key], value) {
			return false
		}
	}
	return found != nil
}

func (t table) append(text []byte) []byte {
	nl := lineEnd(text)
	var b bytes.Buffer
	b.Write(text)
	if len(text) > 0 {
		if !bytes.HasSuffix(text, []byte("\n")) {
			b.WriteString(nl)
		}
		b.WriteString(nl)
	}
	b.WriteString(t.header() + nl)
	for _, line := range t.lines {
		b.WriteString(line + nl)
	}
	return b.Bytes()
}

func (t table) withNewline(text []byte) []string {
	var lines []string
	for _, line := range t.lines {
		lines = append(lines, line+lineEnd(text))
	}
	return lines
}

// update brings our lines of a table up to date, and leaves the others.
func (t table) update(lines []string, text []byte) []string {
	lines = slices.Clone(lines)
	for i, ours := range t.withNewline(text) {
		at := slices.IndexFunc(lines, func(line string) bool { return key(line) == key(ours) })
		if at < 0 {
			lines = slices.Insert(lines, min(i, len(lines)), ours)
		} else {
			lines[at] = ours
		}
	}
	return lines
}

func key(line string) string {
	name, _, _ := strings.Cut(line, "=")
	return strings.TrimSpace(name)
}

// find returns the lines from the header of the table to that of the next one, which may
// have comments and empty lines before it. start is -1 where the table has no header.
func (t table) find(lines []string) (start, end int) {
	start = slices.IndexFunc(lines, func(line string) bool { return headerOf(line) == t.header() })
	if start < 0 {
		return -1, -1
	}
	end = start + 1
	for end < len(lines) && headerOf(lines[end]) == "" {
		end++
	}
	if end < len(lines) {
		for end > start+1 && isGap(lines[end-1]) {
			end--
		}
	}
	return start, end
}

func isGap(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// headerOf is the header that a line is, without spaces and comment; empty for none.
func headerOf(line string) string {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "[") {
		return ""
	}
	head, _, _ := strings.Cut(line, "#")
	head = strings.NewReplacer(" ", "", "\t", "").Replace(head)
	if !strings.HasSuffix(head, "]") || strings.ContainsAny(head, "=,") {
		return ""
	}
	return head
}

func (t table) take(text []byte, made []string) ([]byte, error) {
	before, err := readTOML(text)
	if err != nil {
		return nil, err
	}
	if at(before, t.name) == nil {
		return text, nil
	}
	lines := splitLines(text)
	start, end := t.find(lines)
	switch {
	case start < 0 && t.also:
		return text, nil
	case start < 0:
		return nil, fmt.Errorf("%s is written in another form than a table of its own: take it out by hand", t.header())
	case t.also:
		return t.takeLine(lines, start, end, made == nil || slices.Contains(made, pointer(t.name))), nil
	}
	lines = slices.Delete(lines, blankBefore(lines, start), end)
	for {
		below := slices.IndexFunc(lines, func(line string) bool {
			return strings.HasPrefix(headerOf(line), strings.TrimSuffix(t.header(), "]")+".")
		})
		if below < 0 {
			break
		}
		inner := table{name: strings.Split(strings.Trim(headerOf(lines[below]), "[]"), ".")}
		_, end := inner.find(lines)
		lines = slices.Delete(lines, blankBefore(lines, below), max(end, below+1))
	}
	text = join(lines)
	after, err := readTOML(text)
	if err != nil || at(after, t.name) != nil {
		return nil, fmt.Errorf("%s cannot be taken out; do it by hand", t.header())
	}
	return text, t.onlyDiffers(before, after)
}

// takeLine takes our line out of the table, and the table where it was made for that and has
// nothing else.
func (t table) takeLine(lines []string, start, end int, made bool) []byte {
	for i := start + 1; i < end; i++ {
		if strings.TrimSpace(lines[i]) != t.lines[0] {
			continue
		}
		from, to := i, i+1
		if made && i == start+1 && !slices.ContainsFunc(lines[to:end], func(line string) bool { return strings.TrimSpace(line) != "" }) {
			from = blankBefore(lines, start)
		}
		return join(slices.Delete(lines, from, to))
	}
	return join(lines)
}

// blankBefore is the empty line before a header, which came with it.
func blankBefore(lines []string, start int) int {
	if start > 0 && strings.TrimSpace(lines[start-1]) == "" {
		return start - 1
	}
	return start
}

// tables are several tables in one file.
type tables []table

func (t tables) put(text []byte) ([]byte, []string, error) {
	var made []string
	for _, one := range t {
		with, places, err := one.put(text)
		if err != nil {
			return nil, nil, err
		}
		text, made = with, append(made, places...)
	}
	return text, made, nil
}

func (t tables) take(text []byte, made []string) ([]byte, error) {
	for _, one := range slices.Backward(t) {
		var err error
		if text, err = one.take(text, made); err != nil {
			return nil, err
		}
	}
	return text, nil
}

func (t tables) empty(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

func lineEnd(text []byte) string {
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// splitLines cuts a text into lines with their ends.
func splitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func join(lines []string) []byte { return []byte(strings.Join(lines, "")) }
