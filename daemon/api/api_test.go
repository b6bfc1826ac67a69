package api_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// constants reads the texts of the constants in a file of this package.
func constants(t *testing.T, file string, want func(*ast.ValueSpec) bool) (texts []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !want(spec) {
			return true
		}
		for _, v := range spec.Values {
			lit, ok := v.(*ast.BasicLit)
			if !ok {
				continue
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

// TestEveryCodeHasAMeaning: none falls back to "internal".
func TestEveryCodeHasAMeaning(t *testing.T) {
	codes := constants(t, "errors.go", func(s *ast.ValueSpec) bool {
		name, ok := s.Type.(*ast.Ident)
		return ok && name.Name == "Code"
	})
	if len(codes) < 25 {
		t.Fatalf("codes: got %q, want all of them", codes)
	}
	for i, code := range codes {
		e := &api.Error{Code: api.Code(code)}
		if e.Status() == http.StatusInternalServerError && e.Code != api.Internal || e.Status() < 400 || http.StatusText(e.Status()) == "" {
			t.Errorf("%s: got status %d, want one of its own", code, e.Status())
		}
		if e.Exit() < api.ExitError || e.Exit() > api.ExitDeclined {
			t.Errorf("%s: got exit code %d, want 1 to 9", code, e.Exit())
		}
		if e.Retryable() && !slices.Contains([]int{api.ExitUnavailable, api.ExitPending, api.ExitLimited}, e.Exit()) {
			t.Errorf("%s: got it retryable with exit code %d", code, e.Exit())
		}
		if slices.Contains(codes[:i], code) || !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(code) {
			t.Errorf("%s: want small words, and once", code)
		}
	}
	unknown := &api.Error{Code: "from_the_future"}
	if unknown.Status() != http.StatusInternalServerError || unknown.Exit() != api.ExitError || unknown.Retryable() {
		t.Errorf("unknown code: got %+v, want it to be like internal", unknown.Problem())
	}
}

func TestRoutesAreDistinct(t *testing.T) {
	routes := constants(t, "routes.go", func(*ast.ValueSpec) bool { return true })
	mux := http.NewServeMux() // panics where two clash
	for _, route := range routes {
		mux.HandleFunc(route, func(http.ResponseWriter, *http.Request) {})
	}
}

func TestErrors(t *testing.T) {
	e := api.Errorf(api.AgentNotFound, "no agent %q: %w", "Nowa", fs.ErrNotExist).WithNear([]string{"Nova"}).WithNext("duo show %s", "Nova")
	if e.Error() != `no agent "Nowa": file does not exist` || !errors.Is(e, fs.ErrNotExist) {
		t.Errorf("got %v, want the text with its cause", e)
	}
	want := api.Problem{
		Type: "urn:duo:problem:agent_not_found", Title: "Not Found", Status: 404, Detail: e.Message,
		Code: api.AgentNotFound, Exit: api.ExitNotFound, Next: "duo show Nova", Near: []string{"Nova"},
	}
	if diff := cmp.Diff(want, e.Problem()); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	data, err := json.Marshal(e.Problem())
	if err != nil {
		t.Fatal(err)
	}
	var back api.Problem
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	got := back.Error()
	if got.Code != e.Code || got.Message != e.Message || got.Next != e.Next || !slices.Equal(got.Near, e.Near) {
		t.Errorf("through JSON: got %+v, want %+v", got, e)
	}
}

// TestMessage: the JSON of a message is that of its envelope and a few fields more.
func TestMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zé"\\ \n]{0,8}`)
		m := api.Message{
			Envelope: &envelope.Envelope{
				Seq: rapid.Int64Range(1, 1e6).Draw(t, "seq"), ID: envelope.NamedID(text.Draw(t, "id")), Type: envelope.Message,
				From: envelope.Address{Name: "Nova", Host: "nyc"}, Conversation: "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3",
				Timestamp: 1, Content: text.Draw(t, "content"), Unknown: []envelope.Field{{Name: "mood", Value: json.RawMessage(`{"ref":1}`)}},
			},
			Ref: text.Draw(t, "ref"), Topic: text.Draw(t, "topic"), Crossed: rapid.SliceOfN(rapid.Int64Range(1, 99), 1, 3).Draw(t, "crossed"),
			Error: text.Draw(t, "error"),
		}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back api.Message
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back); diff != "" {
			t.Fatalf("through %s (-want +got):\n%s", data, diff)
		}
	})
}

// TestForeignFieldsOfMessages: a sender cannot give a message another reference.
// What nobody keeps has no reference, and none that its sender has made up.
func TestMessageWithoutAReference(t *testing.T) {
	e, err := envelope.Decode([]byte(`{"type":"typing","conversation":"c1","ref":"cfake.1"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(api.Message{Envelope: e})
	if want := `{"type":"typing","conversation":"c1","conversationTopic":""}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestForeignFieldsOfMessages(t *testing.T) {
	e, err := envelope.Decode([]byte(`{"seq":2,"type":"message","content":"hi","ref":"cfake.1","crossed":[9],"conversationTopic":"fake","error":"fake","mood":"calm"}`))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(api.Message{Envelope: e, Ref: "c9f3a.2", Topic: "real"})
	want := `{"seq":2,"type":"message","content":"hi","mood":"calm","ref":"c9f3a.2","conversationTopic":"real"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v, want %s", data, err, want)
	}
	if len(e.Unknown) != 5 {
		t.Errorf("envelope: got %v, want it as it was", e.Unknown)
	}
	for _, bad := range []string{`{"ref":7}`, `{"crossed":"all"}`, `{"error":[]}`, `[]`, `{"seq":"two"}`} {
		if err := json.Unmarshal([]byte(bad), new(api.Message)); err == nil {
			t.Errorf("%s: got no error, want one", bad)
		}
	}
}
