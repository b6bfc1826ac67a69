package mcpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
)

// TestEveryArgument: each argument of each tool, missing or wrong, is named in an error
// that says what it may be, and shows a call that is right.
func TestEveryArgument(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	m := stdio(t, h, "Atlas")
	listed, err := m.ListTools(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(listed.Tools); n != 12 {
		t.Errorf("got %d tools, want 12", n)
	}
	for _, tool := range listed.Tools {
		data, err := json.Marshal(tool.InputSchema)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Properties map[string]struct {
				Type string
				Enum []string
			}
			Required []string
		}
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		next := "\nnext: " + tool.Name + " {"
		m.fails(tool.Name, `{"bogus":1}`, `there is no argument "bogus"; `+tool.Name+" has ", "(bad_request)", next)
		for name, property := range schema.Properties {
			typo, _ := json.Marshal(map[string]any{name + "s": 1})
			m.fails(tool.Name, string(typo), "there is no argument", "did you mean: "+name, next)
			wrong := []string{"{}", "1.5", "-1", "1e99", `[[]]`, `[1]`, `""`, `"  "`}
			switch property.Type {
			case "string":
				wrong = append(wrong, "true", "7")
			case "boolean", "integer":
				wrong = append(wrong, `"yes"`)
			case "array":
				wrong = append(wrong, "[]", "7", `","`, `"`+strings.Repeat("a,", 65)+`"`)
			}
			if property.Enum != nil {
				wrong = append(wrong, `"bogus"`)
				typo := fmt.Sprintf(`{%q:%q}`, name, property.Enum[0]+"x")
				m.fails(tool.Name, typo, "want one of "+strings.Join(property.Enum, ", "), "did you mean "+property.Enum[0])
			}
			for _, value := range wrong {
				m.fails(tool.Name, fmt.Sprintf(`{%q:%s}`, name, value), "argument "+name+": ", "(bad_request)", next)
			}
		}
		for _, name := range schema.Required {
			rest := make(map[string]any)
			for _, other := range schema.Required {
				if property := schema.Properties[other]; other != name {
					rest[other] = "x"
					if property.Enum != nil {
						rest[other] = property.Enum[0]
					}
				}
			}
			data, _ := json.Marshal(rest)
			m.fails(tool.Name, string(data), "argument "+name+" is missing: ", "(bad_request)", next)
		}
	}
}

// TestWhatCannotBeDone: what a tool cannot do is an error with a code, names that may
// have been meant, and what to call instead.
func TestWhatCannotBeDone(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	m := stdio(t, h, "Atlas")
	for _, test := range []struct{ tool, args, want string }{
		{"message", `{"to":"Nov","text":"hi"}`, "did you mean: Nova\nnext: who {}"},
		{"message", `{"to":"a b c","text":"hi"}`, "next: who {}"},
		{"call", `{"to":["Atlas"]}`, "next: who {}"},
		{"send", `{"text":"hi"}`, "you are in no conversation (conversation_not_found)\nnext: message {\"to\":[\"AGENT\"],\"text\":\"...\"}"},
		{"send", `{"text":"hi","conversation":"c9f3a9"}`, "(conversation_not_found)\nnext: log {}"},
		{"send", `{"text":"hi","conversation":"Nova"}`, "want one like c9f3a"},
		{"send", `{"text":"hi","conversation":"c9f3a.42"}`, `next: send {"text":"...","replyTo":"c9f3a.42"}`},
		{"send", `{"text":"hi","replyTo":"r77b2"}`, "names a call, not a message"},
		{"send", `{"text":"hi","replyTo":"c9f3a.42","conversation":"c1111"}`, "c9f3a.42 is not in the conversation c1111"},
		{"answer", `{"answer":"accept"}`, "(request_not_found)\nnext: "},
		{"answer", `{"answer":"accept","ref":"c9f3a"}`, "want one like r77b2"},
		{"answer", `{"answer":"accept","reason":"x"}`, "argument reason goes with reject and busy"},
		{"answer", `{"answer":"busy","text":"x"}`, "argument text goes with accept"},
		{"read", `{"refs":["Nova"]}`, "want one like c9f3a or c9f3a.42"},
		{"wait", `{"for":"reply"}`, "argument ref is missing"},
		{"wait", `{"for":"any","ref":"c9f3a.42"}`, "argument ref goes with"},
		{"wait", `{"for":"answer","ref":"c9f3a"}`, "want one like r77b2"},
		{"wait", `{"from":"Nov"}`, "did you mean: Nova"},
		{"wait", `{"conversation":"c9f3a.42"}`, "names a message, not a conversation"},
		{"log", `{"ref":"r77b2"}`, "names a call"},
		{"leave", `{"ref":"r77b2"}`, "(request_not_found)"},
		{"leave", `{"ref":"r77b2","text":"x"}`, "withdrawn without words"},
		{"leave", `{}`, "you are in no conversation"},
		{"find", `{}`, "find needs text, capabilities or status"},
		{"whoami", `{"description":"x"}`, "argument description goes with name"},
	} {
		m.fails(test.tool, test.args, "error: ", test.want)
	}
}
