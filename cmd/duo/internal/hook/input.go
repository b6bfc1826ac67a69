package hook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

const (
	maxInput     = 1 << 20 // bytes that are read; what matters stands at the beginning
	maxSessionID = 256
)

// Input is what a hook needs of what its client tells it on standard input.
type Input struct {
	Session    string // id
	Folder     string // the working folder
	Source     string // of a start: startup, resume, clear, compact
	SubAgent   bool   // a helper of the model does this, not the session itself
	Continuing bool   // the turn goes on already because of a hook
	Status     string // of an end: completed, aborted, error; empty where it is not told
}

// fields are the names that clients use.
type fields struct {
	SessionID      string   `json:"session_id"`
	ConversationID string   `json:"conversation_id"` // Cursor
	Folder         string   `json:"cwd"`
	Folders        []string `json:"workspace_roots"` // Cursor
	Source         string   `json:"source"`
	AgentID        string   `json:"agent_id"`
	StopHookActive bool     `json:"stop_hook_active"`
	LoopCount      float64  `json:"loop_count"` // Cursor
	Status         string   `json:"status"`     // Cursor
}

var errNoSession = errors.New("the input names no session")

// Parse reads what a client tells a hook. What is cut off behind the session is read as
// far as it goes, and as if the turn went on already, so that it cannot go on for ever.
func Parse(data []byte) (Input, error) {
	in, whole, err := parse(data)
	id := cmp.Or(in.ConversationID, in.SessionID)
	switch {
	case id != "" && len(id) <= maxSessionID:
	case err != nil:
		return Input{}, fmt.Errorf("read input: %w", err)
	default:
		return Input{}, errNoSession
	}
	if len(in.Folders) > 0 {
		in.Folder = cmp.Or(in.Folder, in.Folders[0])
	}
	return Input{
		Session: id, Folder: in.Folder, Source: in.Source, SubAgent: in.AgentID != "",
		Continuing: in.StopHookActive || in.LoopCount > 0 || !whole, Status: in.Status,
	}, nil
}

// parse reads the fields of a JSON object one by one, and keeps those that came whole.
func parse(data []byte) (in fields, whole bool, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return in, false, cmp.Or(err, errNoSession)
	}
	targets := map[string]any{
		"session_id": &in.SessionID, "conversation_id": &in.ConversationID, "cwd": &in.Folder,
		"workspace_roots": &in.Folders, "source": &in.Source, "agent_id": &in.AgentID,
		"stop_hook_active": &in.StopHookActive, "loop_count": &in.LoopCount, "status": &in.Status,
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return in, false, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return in, false, err
		}
		if target := targets[fmt.Sprint(name)]; target != nil {
			_ = json.Unmarshal(value, target) // of another kind than is known, it says nothing
		}
	}
	_, err = d.Token()
	return in, err == nil, err
}
