package mcpserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/near"
)

// kind is what the value of an argument is.
type kind string

const (
	aWord   kind = "string" // with something in it
	aNumber kind = "integer"
	aFlag   kind = "boolean"
	aList   kind = "array" // of words; one word alone is taken for a list of it
)

// arg is an argument of a tool. The schema that a client gets and the check of what it
// sends are made of it.
type arg struct {
	name    string
	kind    kind
	about   string
	needed  bool
	choices []string
	most    int // of a whole number
}

const (
	maxWords = 64
	maxWhole = 1 << 30
)

// schema is the JSON schema of a tool's arguments.
func schema(args []arg) map[string]any {
	properties := make(map[string]any, len(args))
	var needed []string
	for _, a := range args {
		p := map[string]any{"type": string(a.kind)}
		if a.about != "" {
			p["description"] = a.about
		}
		if a.kind == aList {
			p["items"] = map[string]any{"type": "string"}
		}
		if a.choices != nil {
			p["enum"] = a.choices
		}
		properties[a.name] = p
		if a.needed {
			needed = append(needed, a.name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if needed != nil {
		s["required"] = needed
	}
	return s
}

// values are the arguments of a call, checked.
type values map[string]any

func (v values) text(name string) string {
	s, _ := v[name].(string)
	return s
}

func (v values) words(name string) []string {
	s, _ := v[name].([]string)
	return s
}

func (v values) flag(name string) bool {
	b, _ := v[name].(bool)
	return b
}

// whole is a number, or what is meant where there is none.
func (v values) whole(name string, otherwise int) int {
	if n, ok := v[name].(int); ok {
		return n
	}
	return otherwise
}

func (v values) has(name string) bool {
	_, ok := v[name]
	return ok
}

// parse reads what a client sent as the arguments of a tool. The first thing that is
// wrong is the error: which argument, what it may be, and what may have been meant.
func (t *tool) parse(data json.RawMessage) (values, error) {
	fields := make(map[string]json.RawMessage)
	if len(data) > 0 && string(data) != "null" {
		if err := json.Unmarshal(data, &fields); err != nil {
			return nil, t.bad("the arguments are no JSON object")
		}
	}
	v := make(values)
	for _, a := range t.args {
		field, ok := fields[a.name]
		delete(fields, a.name)
		if !ok || string(field) == "null" {
			continue
		}
		value, err := a.parse(field)
		if err != nil {
			return nil, t.bad("argument %s: %w", a.name, err)
		}
		v[a.name] = value
	}
	if err := t.unknown(fields); err != nil {
		return nil, err
	}
	for _, a := range t.args {
		if a.needed && !v.has(a.name) {
			return nil, t.bad("argument %s is missing: %s", a.name, a.wants())
		}
	}
	return v, nil
}

// unknown is the error where there are arguments that the tool does not have.
func (t *tool) unknown(fields map[string]json.RawMessage) error {
	var names, known []string
	for name := range fields {
		names = append(names, name)
	}
	if names == nil {
		return nil
	}
	for _, a := range t.args {
		known = append(known, a.name)
	}
	slices.Sort(names)
	has := "none"
	if known != nil {
		has = strings.Join(known, ", ")
	}
	return t.bad("there is no argument %.40q; %s has %s", names[0], t.name, has).WithNear(near.Names(names[0], known))
}

func (t *tool) bad(format string, args ...any) *api.Error {
	e := api.Errorf(api.BadRequest, format, args...)
	e.Next = t.example
	return e
}

func (a arg) parse(data json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	switch value := value.(type) {
	case string:
		switch a.kind {
		case aWord:
			return value, a.checkWord(value)
		case aList:
			return splitWords([]string{value})
		}
	case bool:
		if a.kind == aFlag {
			return value, nil
		}
	case json.Number:
		n, err := value.Int64()
		if a.kind == aNumber && err == nil && n >= 0 && n <= int64(a.limit()) {
			return int(n), nil
		}
	case []any:
		if a.kind == aList {
			return a.parseList(value)
		}
	}
	return nil, fmt.Errorf("want %s, got %.100s", a.wants(), data)
}

func (a arg) parseList(items []any) (any, error) {
	texts := make([]string, len(items))
	for i, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("want %s, but item %d is no string", a.wants(), i+1)
		}
		texts[i] = s
	}
	return splitWords(texts)
}

// splitWords takes "Nova,Sage" for two words.
func splitWords(texts []string) ([]string, error) {
	var words []string
	for _, t := range texts {
		words = append(words, strings.FieldsFunc(t, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	switch {
	case len(words) == 0:
		return nil, errors.New("the list is empty")
	case len(words) > maxWords:
		return nil, fmt.Errorf("want at most %d words, got %d", maxWords, len(words))
	}
	return words, nil
}

func (a arg) checkWord(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("it is empty")
	}
	if a.choices == nil || slices.Contains(a.choices, s) {
		return nil
	}
	err := fmt.Errorf("want %s, got %.40q", a.wants(), s)
	if like := near.Names(s, a.choices); len(like) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, like[0])
	}
	return err
}

func (a arg) limit() int {
	if a.most > 0 {
		return a.most
	}
	return maxWhole
}

// wants says what the value of an argument may be.
func (a arg) wants() string {
	switch {
	case a.choices != nil:
		return "one of " + strings.Join(a.choices, ", ")
	case a.kind == aList:
		return "a list of strings (" + a.about + ")"
	case a.kind == aNumber:
		return fmt.Sprintf("a whole number from 0 to %d", a.limit())
	case a.kind == aFlag:
		return "true or false"
	}
	return "a string (" + a.about + ")"
}
