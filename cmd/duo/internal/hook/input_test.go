package hook_test

import (
	"testing"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]hook.Input{
		`{"session_id":"a"}`: {Session: "a"},
		`{"session_id":"a","cwd":"/x","source":"compact","stop_hook_active":true} more`: {Session: "a", Folder: "/x", Source: "compact", Continuing: true},
		`{"conversation_id":"c","session_id":"a","workspace_roots":["/x","/y"]}`:        {Session: "c", Folder: "/x"},
		`{"session_id":"a","loop_count":1,"status":"completed"}`:                        {Session: "a", Continuing: true, Status: "completed"},
		`{"session_id":"a","agent_id":"b"}`:                                             {Session: "a", SubAgent: true},
		`{"session_id":"a","cwd":7,"stop_hook_active":"yes"}`:                           {Session: "a"},
		`{"session_id":"a","session_id":"b"}`:                                           {Session: "b"},
		`{"session_id":"a","prompt":"it is cut of`:                                      {Session: "a", Continuing: true},
	} {
		if got, err := hook.Parse([]byte(in)); got != want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{``, `null`, `{`, `{}`, `[]`, `{"session_id":""}`, `{"session_id":null}`, `{"session_id":"a`} {
		if got, err := hook.Parse([]byte(in)); err == nil {
			t.Errorf("%s: got %+v, want an error", in, got)
		}
	}
}

// FuzzParse: what is read names a session of a bounded length, or is an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"session_id":"a","cwd":"/x","stop_hook_active":true,"workspace_roots":["/y"],"loop_count":2}`))
	f.Add([]byte(`{"session_id":"a","prompt":"it is cut of`))
	f.Add([]byte(`{"conversation_id":"\ud800","status":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := hook.Parse(data)
		if err == nil && (in.Session == "" || len(in.Session) > 256) {
			t.Errorf("got the session %q", in.Session)
		}
		if err != nil && in != (hook.Input{}) {
			t.Errorf("got %+v with the error %v", in, err)
		}
	})
}
