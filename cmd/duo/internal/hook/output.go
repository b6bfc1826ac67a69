package hook

import "encoding/json"

// form is how a client takes what is told.
type form int

const (
	silent     form = iota // it takes nothing
	inContext              // hookSpecificOutput.additionalContext
	decision               // decision and reason, which becomes the next prompt
	additional             // additional_context
	followUp               // followup_message, the next prompt
)

type specific struct {
	Event   string `json:"hookEventName"`
	Context string `json:"additionalContext"`
}

// output is what a hook prints; one field or pair of fields of it is set.
type output struct {
	Specific   *specific         `json:"hookSpecificOutput,omitempty"`
	Decision   string            `json:"decision,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Additional string            `json:"additional_context,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	FollowUp   string            `json:"followup_message,omitempty"`
}

// render writes a text as the client of an event takes it; nothing where there is none.
// An agent is who the session is from now on, for a client that takes it that way.
func (e event) render(text, agent string) []byte {
	if text == "" || e.form == silent {
		return nil
	}
	var out output
	switch e.form {
	case inContext:
		out.Specific = &specific{e.name, text}
	case decision:
		out.Decision, out.Reason = e.name, text
	case additional:
		out.Additional = text
		if e.kind == starts && agent != "" {
			out.Env = map[string]string{"DUO_AS": agent}
		}
	case followUp:
		out.FollowUp = text
	}
	data, err := json.Marshal(out)
	if err != nil {
		return nil // strings can always be written
	}
	return append(data, '\n')
}
