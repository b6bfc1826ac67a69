package mcpserver

import (
	"encoding/json"
	"slices"
	"strings"
)

// inTools says what to call instead of a command of the command line. What no tool does
// stays a command, for a shell.
func inTools(command string) string {
	words := splitLine(command)
	if len(words) < 2 || words[0] != "duo" {
		if name, ok := strings.CutPrefix(command, "export DUO_AS="); ok {
			return written("whoami", pair{"name", name})
		}
		return command
	}
	verb, rest, flags := words[1], []string(nil), map[string]string{}
	for words = words[2:]; len(words) > 0; words = words[1:] {
		name, isFlag := strings.CutPrefix(words[0], "--")
		switch {
		case !isFlag:
			rest = append(rest, words[0])
		case len(words) > 1 && !strings.HasPrefix(words[1], "--"):
			flags[name] = words[1]
			words = words[1:]
		default:
			flags[name] = ""
		}
	}
	if to, ok := translations[verb]; ok {
		if text := to(rest, flags); text != "" {
			return text
		}
	}
	return command + " (in a shell)"
}

// translations are from commands to calls of tools.
var translations = map[string]func(rest []string, flags map[string]string) string{
	"register": func(rest []string, _ map[string]string) string { return written("whoami", pair{"name", at(rest, 0)}) },
	"whoami":   func([]string, map[string]string) string { return written("whoami") },
	"who":      func([]string, map[string]string) string { return written("who") },
	"find": func(rest []string, flags map[string]string) string {
		return written("find", pair{"text", strings.Join(rest, " ")}, pair{"capabilities", some(flags["capability"])})
	},
	"call": func(rest []string, flags map[string]string) string {
		if len(rest) == 0 {
			return written("inbox")
		}
		return written("call", pair{"to", rest[:1]}, pair{"topic", flags["topic"]})
	},
	"accept": func(rest []string, _ map[string]string) string {
		return written("answer", pair{"answer", "accept"}, pair{"ref", at(rest, 0)})
	},
	"reject": func(rest []string, _ map[string]string) string {
		return written("answer", pair{"answer", "reject"}, pair{"ref", at(rest, 0)})
	},
	"cancel": func(rest []string, _ map[string]string) string { return written("leave", pair{"ref", at(rest, 0)}) },
	"leave":  func(rest []string, _ map[string]string) string { return written("leave", pair{"ref", at(rest, 0)}) },
	"send": func(rest []string, flags map[string]string) string {
		return written("send", pair{"text", at(rest, 0)}, pair{"conversation", flags["to"]})
	},
	"reply": func(rest []string, _ map[string]string) string {
		return written("send", pair{"text", at(rest, 1)}, pair{"replyTo", at(rest, 0)})
	},
	"message": func(rest []string, _ map[string]string) string {
		return written("message", pair{"to", some(at(rest, 0))}, pair{"text", at(rest, 1)})
	},
	"inbox": func([]string, map[string]string) string { return written("inbox") },
	"read":  func(rest []string, _ map[string]string) string { return written("read", pair{"refs", rest}) },
	"show":  func(rest []string, _ map[string]string) string { return written("read", pair{"refs", rest}) },
	"wait": func(rest []string, flags map[string]string) string {
		return written("wait", pair{"for", flags["for"]}, pair{"ref", at(rest, 0)}, pair{"conversation", flags["conversation"]})
	},
	"poll": func([]string, map[string]string) string { return written("wait") },
	"log": func(rest []string, flags map[string]string) string {
		return written("log", pair{"ref", at(rest, 0)}, pair{"before", number(flags["before"])})
	},
	"search": func(rest []string, flags map[string]string) string {
		return written("log", pair{"search", at(rest, 0)}, pair{"last", number(flags["limit"])})
	},
	"list": func(_ []string, flags map[string]string) string {
		return written("log", pair{"last", number(flags["limit"])})
	},
	"receipts": func(rest []string, _ map[string]string) string {
		conversation, _, found := strings.Cut(at(rest, 0), ".")
		if !found { // it has no place in a conversation yet
			return written("wait")
		}
		return written("log", pair{"ref", conversation})
	},
}

// pair is an argument of a call; an empty value is left out.
type pair struct {
	name  string
	value any
}

// written is a call of a tool as a text.
func written(tool string, args ...pair) string {
	var parts []string
	for _, a := range args {
		switch v := a.value.(type) {
		case string:
			if v == "" {
				continue
			}
		case []string:
			if len(v) == 0 {
				continue
			}
		}
		data, err := json.Marshal(a.value)
		if err != nil || string(data) == "null" {
			continue
		}
		parts = append(parts, `"`+a.name+`":`+string(data))
	}
	return tool + " {" + strings.Join(parts, ",") + "}"
}

func at(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return ""
}

func some(word string) []string {
	return slices.DeleteFunc([]string{word}, func(s string) bool { return s == "" })
}

// number is a number of the command line as JSON has it.
func number(text string) any {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return nil
	}
	return json.Number(text)
}

// splitLine takes a command line apart, as frame.ShellWord has put it together.
func splitLine(line string) []string {
	var words []string
	var current strings.Builder
	quote, began := rune(0), false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			current.WriteRune(r)
		case r == '"' || r == '\'':
			quote, began = r, true
		case r == ' ':
			if began || current.Len() > 0 {
				words = append(words, current.String())
			}
			current.Reset()
			began = false
		default:
			current.WriteRune(r)
		}
	}
	if began || current.Len() > 0 {
		words = append(words, current.String())
	}
	return words
}
