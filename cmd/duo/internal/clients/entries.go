package clients

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// content is what is ours in a file.
type content interface {
	// put returns a text with what is ours in it, and the places that had to be made for it.
	put(text []byte) (with []byte, made []string, err error)
	// take returns a text without what is ours. Places that have nothing in them then go
	// too where they were made by put; where nobody knows any more, all of them.
	take(text []byte, made []string) (without []byte, err error)
	// empty reports whether nothing is in a text but what put begins a new file with.
	empty(text []byte) bool
}

// whole is a file that is ours alone.
type whole []byte

func (w whole) put([]byte) ([]byte, []string, error) { return w, nil, nil }

// take leaves a file in which somebody has written since.
func (w whole) take(text []byte, _ []string) ([]byte, error) {
	if bytes.Equal(text, w) {
		return nil, nil
	}
	return text, nil
}

func (w whole) empty(text []byte) bool { return len(text) == 0 }

// entries are members and hooks in a JSON file of a client.
type entries struct {
	client   string
	skeleton string // what a new file begins with, "{}" where empty
	reads    form   // what the client reads
	list     []entry
}

// entry is one member, or one element of a list of hooks.
type entry struct {
	at    []string
	value any
	event string         // of a hook, as duo hook has it; empty for a member
	ours  func(any) bool // whether a member that is there is duo's; nil for always
}

func (e entries) start() []byte {
	if e.skeleton == "" {
		return []byte("{}\n")
	}
	return []byte(e.skeleton)
}

func (e entries) empty(text []byte) bool { return same(text, e.start()) }

func (e entries) put(text []byte) ([]byte, []string, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		text = e.start()
	}
	if err := e.reads.check(text); err != nil {
		return nil, nil, err
	}
	var made []string
	for _, entry := range e.list {
		d, err := readDocument(text)
		if err != nil {
			return nil, nil, err
		}
		with, places, err := e.putOne(d, entry)
		if err != nil {
			return nil, nil, err
		}
		text, made = with, append(made, places...)
	}
	return text, made, nil
}

func (e entries) putOne(d *document, entry entry) ([]byte, []string, error) {
	there, _ := d.find(entry.at)
	switch {
	case there == nil && entry.event != "":
		return d.add(entry.at, entry.value)
	case there == nil:
		return d.set(entry.at, entry.value)
	case entry.event != "":
		return e.putHook(d, there, entry)
	}
	value, err := plain(d.text[there.StartOffset:there.EndOffset])
	if err == nil && entry.ours != nil && !entry.ours(value) {
		err = fmt.Errorf("%q is something else than duo", strings.Join(entry.at, "."))
	}
	if err != nil {
		return nil, nil, err
	}
	return d.set(entry.at, entry.value)
}

// putHook adds a hook to those of an event, or brings ours up to date.
func (e entries) putHook(d *document, list *hujson.Value, entry entry) ([]byte, []string, error) {
	array, ok := list.Value.(*hujson.Array)
	if !ok {
		return nil, nil, fmt.Errorf("%q is not a list", strings.Join(entry.at, "."))
	}
	wanted := encode(entry.value)
	for i := range array.Elements {
		found, alone := e.hookIn(d, &array.Elements[i], entry.event)
		if found == nil {
			continue
		}
		if !alone { // others stand in the same group: the group is theirs
			wanted = innermost(wanted)
		}
		if same(d.text[found.StartOffset:found.EndOffset], wanted) {
			return d.text, nil, nil
		}
		return splice(d.text, found.StartOffset, found.EndOffset, d.format(raw(wanted), d.indentAt(found.StartOffset))), nil, nil
	}
	return d.add(entry.at, entry.value)
}

// raw is JSON as it is.
type raw []byte

// MarshalJSON returns the JSON.
func (r raw) MarshalJSON() ([]byte, error) { return r, nil }

// innermost is the hook in a group of one, and what is no group as it is.
func innermost(group []byte) []byte {
	d, err := readDocument(group)
	if err != nil {
		return group
	}
	hooks, _ := d.find([]string{"hooks"})
	if hooks == nil {
		return group
	}
	only := items(hooks)[0]
	return group[only.start:only.end]
}

// hookIn finds our hook in an element of a list of hooks: the element where nothing else is
// in it, else the hook in its group. An empty event means any.
func (e entries) hookIn(d *document, element *hujson.Value, event string) (found *hujson.Value, alone bool) {
	if e.isHook(d, element, event) {
		return element, true
	}
	member := memberOf(element, "hooks")
	if member == nil {
		return nil, false
	}
	group, ok := member.Value.Value.(*hujson.Array)
	if !ok {
		return nil, false
	}
	for i := range group.Elements {
		if e.isHook(d, &group.Elements[i], event) {
			if len(group.Elements) == 1 {
				return element, true
			}
			return &group.Elements[i], false
		}
	}
	return nil, false
}

// ourHook matches the end of our command lines, however the program's path is quoted.
var ourHook = regexp.MustCompile(`duo[^/\s]*['"]?\s+hook\s+(\S+)\s+(\S+)\s*$`)

func (e entries) isHook(d *document, v *hujson.Value, event string) bool {
	value, err := plain(d.text[v.StartOffset:v.EndOffset])
	object, ok := value.(map[string]any)
	if err != nil || !ok {
		return false
	}
	words := commandOf(object)
	match := ourHook.FindStringSubmatch(strings.Join(words, " "))
	return match != nil && match[1] == e.client && (event == "" || match[2] == event)
}

// commandOf is the command line of a hook or a server: a text or a list, and arguments.
func commandOf(object map[string]any) []string {
	var words []string
	for _, name := range []string{"command", "args"} {
		switch v := object[name].(type) {
		case string:
			words = append(words, v)
		case []any:
			for _, word := range v {
				words = append(words, fmt.Sprint(word))
			}
		}
	}
	return words
}

var ourServer = regexp.MustCompile(`(^|/)duo[^/\s]*\s+mcp$`)

// isServer reports whether an MCP server of a client's configuration is duo.
func isServer(value any) bool {
	object, ok := value.(map[string]any)
	return ok && ourServer.MatchString(strings.Join(commandOf(object), " "))
}

func (e entries) take(text []byte, made []string) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return text, nil
	}
	for _, entry := range e.list {
		var err error
		if entry.event != "" {
			text, err = e.takeHooks(text, entry.at, made)
		} else {
			text, err = e.takeMember(text, entry, made)
		}
		if err != nil {
			return nil, err
		}
	}
	return text, nil
}

func (e entries) takeMember(text []byte, entry entry, made []string) ([]byte, error) {
	d, err := readDocument(text)
	if err != nil {
		return nil, err
	}
	there, _ := d.find(entry.at)
	if there == nil {
		return text, nil
	}
	value, err := plain(text[there.StartOffset:there.EndOffset])
	if err != nil {
		return nil, err
	}
	if entry.ours != nil && !entry.ours(value) {
		return text, nil
	}
	return prune(d.remove(entry.at), entry.at[:len(entry.at)-1], made)
}

// takeHooks takes all our hooks of an event out.
func (e entries) takeHooks(text []byte, at, made []string) ([]byte, error) {
	for taken := false; ; taken = true {
		d, err := readDocument(text)
		if err != nil {
			return nil, err
		}
		without := e.takeHook(d, at)
		if without == nil {
			if !taken {
				return text, nil
			}
			return prune(text, at, made)
		}
		text = without
	}
}

// takeHook takes one of our hooks out, and returns nil where there is none.
func (e entries) takeHook(d *document, at []string) []byte {
	list, _ := d.find(at)
	if list == nil {
		return nil
	}
	array, ok := list.Value.(*hujson.Array)
	if !ok {
		return nil
	}
	for i := range array.Elements {
		found, alone := e.hookIn(d, &array.Elements[i], "")
		if found == nil {
			continue
		}
		if alone {
			return d.cut(list, i)
		}
		group := &memberOf(&array.Elements[i], "hooks").Value
		j := slices.IndexFunc(items(group), func(s span) bool { return s.start == found.StartOffset })
		return d.cut(group, j)
	}
	return nil
}

// prune takes out what is empty now at a path of names, from the inside, where it was made.
func prune(text []byte, at, made []string) ([]byte, error) {
	for ; len(at) > 0; at = at[:len(at)-1] {
		d, err := readDocument(text)
		if err != nil {
			return nil, err
		}
		place, _ := d.find(at)
		if place == nil || len(items(place)) > 0 || len(bytes.TrimSpace(text[place.StartOffset+1:place.EndOffset-1])) > 0 {
			return text, nil
		}
		if made != nil && !slices.Contains(made, pointer(at)) {
			return text, nil
		}
		text = d.remove(at)
	}
	return text, nil
}
