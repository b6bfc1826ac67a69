package envelope_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	messageID    = "01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a"
	conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"
	sha256Hex    = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

var atlas = envelope.Address{Name: "Atlas", Host: "nyc"}

// stamped is a message as it stands in a log.
func stamped() *envelope.Envelope {
	return &envelope.Envelope{
		Seq: 42, ID: messageID, Type: envelope.Message, From: atlas, Conversation: conversation,
		Timestamp: 1739654400000, After: envelope.Int(41), Content: "I think therefore I am",
	}
}

// full has a value in every field.
func full() *envelope.Envelope {
	e := stamped()
	e.Event = "create"
	e.To = []string{"Nova", "Nova@home-2"}
	e.ReplyTo = envelope.Ref{Seq: 7}
	e.Topic = "Doubt"
	e.Mode = "live"
	e.Open = true
	e.TurnLimit = 20
	e.Origin = "0a1b2c"
	e.Participants = []envelope.Address{atlas, {Name: "Nova", Host: "nyc"}}
	e.Hosts = map[string]string{"nyc": "0a1b2c", "home-2": "3d4e5f"}
	e.Signature = "c2lnbmVk"
	e.About = "01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6b"
	e.Why = "nobody is called so"
	e.Reason = "all is said"
	e.Auto = true
	e.Hops = 3
	e.Raw = envelope.Int(0)
	e.Request, e.Status, e.Busy, e.RingUntil = "r77b2", "ringing", true, 1739654430000
	e.Until, e.Operator = 1739740800000, true
	e.Data = json.RawMessage(`{"a":[1.0,null]}`)
	e.Attachments = []envelope.Attachment{{Name: "a.txt", MediaType: "text/plain", Size: 3, SHA256: sha256Hex}}
	e.Unknown = []envelope.Field{{Name: "z", Value: json.RawMessage(`1e2`)}, {Name: "a", Value: json.RawMessage(`"\u00e9"`)}}
	return e
}

func decode(t testing.TB, line []byte) *envelope.Envelope {
	t.Helper()
	e, err := envelope.Decode(line)
	if err != nil {
		t.Fatalf("Decode(%s): got %v, want no error", line, err)
	}
	return e
}

func TestEveryFieldSurvivesTheRoundTrip(t *testing.T) {
	want := full()
	fields := reflect.ValueOf(*want)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Fatalf("field %s: got the zero value, want this test to fill it", fields.Type().Field(i).Name)
		}
	}
	got := decode(t, want.Append(nil))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Decode(Append(e)) (-want +got):\n%s", diff)
	}
}

func TestRoundTripOfAnyEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyEnvelope(t)
		line := want.Append(nil)
		if bytes.IndexByte(line, '\n') >= 0 {
			t.Fatalf("got a line break in %q, want one line", line)
		}
		got, err := envelope.Decode(line)
		if err != nil {
			t.Fatalf("Decode(%s): got %v, want no error", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Decode(Append(e)) (-want +got):\n%s", diff)
		}
	})
}

func anyEnvelope(t *rapid.T) *envelope.Envelope {
	number := rapid.Int64Range(0, envelope.MaxInt)
	optional := rapid.Ptr(number, true)
	text := rapid.String()
	name := rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,31}`)
	e := &envelope.Envelope{
		Seq:       number.Draw(t, "seq"),
		ID:        messageID,
		Type:      envelope.Type(text.Draw(t, "type")),
		From:      envelope.Address{Name: name.Draw(t, "from")},
		Timestamp: number.Draw(t, "timestamp"),
		After:     optional.Draw(t, "after"),
		Topic:     text.Draw(t, "topic"),
		Why:       text.Draw(t, "why"),
		Open:      rapid.Bool().Draw(t, "open"),
		Hops:      number.Draw(t, "hops"),
		Raw:       optional.Draw(t, "raw"),
		Content:   text.Draw(t, "content"),
	}
	if to := rapid.SliceOf(text).Draw(t, "to"); len(to) > 0 {
		e.To = to
	}
	if hosts := rapid.MapOf(text, text).Draw(t, "hosts"); len(hosts) > 0 {
		e.Hosts = hosts
	}
	e.Signature = text.Draw(t, "signature")
	for i, s := range rapid.SliceOfN(text, 0, 8).Draw(t, "unknown") {
		value, _ := json.Marshal(s)
		e.Unknown = append(e.Unknown, envelope.Field{Name: fmt.Sprintf("%s-%d", s, i), Value: value})
	}
	return e
}

func TestSeqIsFirstAndIDSecond(t *testing.T) {
	want := fmt.Sprintf(`{"seq":42,"id":"%s",`, messageID)
	for name, e := range map[string]*envelope.Envelope{"a message": stamped(), "every field": full()} {
		if got := e.Append(nil); !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%s: got %s, want it to begin with %s", name, got, want)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	got := stamped().Append([]byte("before "))
	if want := `before {"seq":42,`; !strings.HasPrefix(string(got), want) {
		t.Errorf("got %s, want it to begin with %s", got, want)
	}
}

// A draft becomes the line by putting the seq in front and the timestamp in its place.
func TestAppendDraftLeavesRoomForTheStamp(t *testing.T) {
	for name, e := range map[string]*envelope.Envelope{"a message": stamped(), "every field": full()} {
		draft, stamp := e.AppendDraft([]byte("before "))
		draft = bytes.TrimPrefix(draft, []byte("before "))
		got := fmt.Sprintf(`{"seq":42,%s,"timestamp":1739654400000%s`, draft[1:stamp], draft[stamp:])
		if want := string(e.Append(nil)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestSigned: what is signed is the line without its stamp and signature, in one form.
func TestSigned(t *testing.T) {
	e := full()
	e.Unknown = e.Unknown[:1]
	const want = "duo/envelope/1\n" + `{"id":"01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a","type":"message","event":"create","from":"Atlas@nyc"`
	got := string(e.Signed())
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `,"hosts":{"home-2":"3d4e5f","nyc":"0a1b2c"},"about":"01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6b"`+got[strings.Index(got, `,"why"`):]) || !strings.HasSuffix(got, `"z":1e2}`) {
		t.Errorf("got %s", got)
	}
	stamped := *decode(t, e.Append(nil))
	stamped.Seq, stamped.Timestamp, stamped.Signature = 7, 8, "other"
	if again := string(decode(t, stamped.Append(nil)).Signed()); again != got {
		t.Errorf("with another stamp and signature: got %s, want %s", again, got)
	}
	stamped.Content += "!"
	if again := string(stamped.Signed()); again == got {
		t.Error("with another text: got the same bytes")
	}
}

func TestUnknownFieldsAreKeptInOrder(t *testing.T) {
	const line = `{"content":"hi","z":1.0,"From":"x","a":{"c":1,"b":[ ]},"m":"\u00e9\/"}`
	var names []string
	for _, f := range decode(t, []byte(line)).Unknown {
		names = append(names, f.Name+"="+string(f.Value))
	}
	want := []string{`z=1.0`, `From="x"`, `a={"c":1,"b":[]}`, `m="\u00e9\/"`}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("unknown fields (-want +got):\n%s", diff)
	}
}

func TestDecodeKeepsNothingOfItsInput(t *testing.T) {
	line := full().Append(nil)
	got := decode(t, line)
	clear(line)
	if diff := cmp.Diff(full(), got); diff != "" {
		t.Errorf("after the input was overwritten (-want +got):\n%s", diff)
	}
}

func TestMarshalJSONNestsTheLine(t *testing.T) {
	got, err := json.Marshal(map[string]any{"envelope": stamped()})
	want := fmt.Sprintf(`{"envelope":%s}`, stamped().Append(nil))
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	var back struct{ Envelope *envelope.Envelope }
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stamped(), back.Envelope); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if err := json.Unmarshal([]byte(`{"envelope":{"seq":-1}}`), &back); !errors.Is(err, envelope.ErrInvalid) {
		t.Errorf("nested negative seq: got %v, want ErrInvalid", err)
	}
}

func TestDecodeBoundsItsInput(t *testing.T) {
	list := func(field, element string, n int) string {
		return fmt.Sprintf(`{"%s":[%s]}`, field, strings.TrimSuffix(strings.Repeat(element+",", n), ","))
	}
	text := func(n int) string { return `{"x":"` + strings.Repeat("x", n-len(`{"x":""}`)) + `"}` }
	for _, test := range []struct {
		name, line string
		good       bool
	}{
		{"line at the limit", text(envelope.MaxLine), true},
		{"line over the limit", text(envelope.MaxLine + 1), false},
		{"to at the limit", list("to", `"a"`, envelope.MaxRecipients), true},
		{"to over the limit", list("to", `"a"`, envelope.MaxRecipients+1), false},
		{"participants over the limit", list("participants", `"a@b"`, envelope.MaxRecipients+1), false},
		{"attachments over the limit", list("attachments", `{}`, envelope.MaxRecipients+1), false},
	} {
		_, err := envelope.Decode([]byte(test.line))
		if test.good != (err == nil) || err != nil && !errors.Is(err, envelope.ErrInvalid) {
			t.Errorf("%s: got error %v, want good = %v", test.name, err, test.good)
		}
	}
}

func TestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("é", 10000)
	for _, line := range []string{`{"seq":"` + long + `"}`, `{"from":"` + long + `"}`, `{"` + long + `":[}`, `{"to":[1` + long + `]}`} {
		_, err := envelope.Decode([]byte(line))
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("Decode(%.20s…): got an error of %d bytes, want one of at most 300", line, len(fmt.Sprint(err)))
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*envelope.Envelope)
		field  string // that the error names, empty where all is well
	}{
		{"as it is", func(e *envelope.Envelope) {}, ""},
		{"join", func(e *envelope.Envelope) { e.Type = envelope.Join }, ""},
		{"leave", func(e *envelope.Envelope) { e.Type = envelope.Leave }, ""},
		{"system", func(e *envelope.Envelope) { e.Type, e.Event = envelope.System, envelope.EventClose }, ""},
		{"first line", func(e *envelope.Envelope) { e.Seq, e.After = 1, nil }, ""},
		{"content over the default limit", func(e *envelope.Envelope) { e.Content = strings.Repeat("x", envelope.MaxContent+1) }, ""},
		{"no seq", func(e *envelope.Envelope) { e.Seq = 0 }, "seq"},
		{"negative seq", func(e *envelope.Envelope) { e.Seq = -1 }, "seq"},
		{"no id", func(e *envelope.Envelope) { e.ID = "" }, "id"},
		{"id that is none", func(e *envelope.Envelope) { e.ID = "hello" }, "id"},
		{"no from", func(e *envelope.Envelope) { e.From = envelope.Address{} }, "from"},
		{"from without host", func(e *envelope.Envelope) { e.From.Host = "" }, "from"},
		{"no conversation", func(e *envelope.Envelope) { e.Conversation = "" }, "conversation"},
		{"conversation that is no id", func(e *envelope.Envelope) { e.Conversation = "../x" }, "conversation"},
		{"no timestamp", func(e *envelope.Envelope) { e.Timestamp = 0 }, "timestamp"},
		{"no type", func(e *envelope.Envelope) { e.Type = "" }, "type"},
		{"live type", func(e *envelope.Envelope) { e.Type = envelope.Typing }, "type"},
		{"signal", func(e *envelope.Envelope) { e.Type = envelope.Call }, "type"},
		{"type of a drop", func(e *envelope.Envelope) { e.Type = envelope.Create }, "type"},
		{"message with event", func(e *envelope.Envelope) { e.Event = envelope.EventClose }, "event"},
		{"system without event", func(e *envelope.Envelope) { e.Type = envelope.System }, "event"},
		{"topic too long", func(e *envelope.Envelope) { e.Topic = strings.Repeat("x", envelope.MaxTopic+1) }, "topic"},
	} {
		e := stamped()
		test.change(e)
		wantError(t, test.name, e.Validate(), test.field)
	}
}

func TestCheck(t *testing.T) {
	attachment := func(change func(*envelope.Attachment)) func(*envelope.Envelope) {
		return func(e *envelope.Envelope) {
			a := envelope.Attachment{Name: "a", Size: 1, SHA256: sha256Hex}
			change(&a)
			e.Attachments = []envelope.Attachment{a}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*envelope.Envelope)
		field  string
	}{
		{"draft", func(e *envelope.Envelope) {}, ""},
		{"content at the limit", func(e *envelope.Envelope) { e.Content = strings.Repeat("x", 100) }, ""},
		{"content over the limit", func(e *envelope.Envelope) { e.Content = strings.Repeat("x", 101) }, "content"},
		{"content not UTF-8", func(e *envelope.Envelope) { e.Content = "a\xff" }, "content"},
		{"content with NUL", func(e *envelope.Envelope) { e.Content = "a\x00" }, "content"},
		{"content of many lines", func(e *envelope.Envelope) { e.Content = "a\r\nb\n" }, ""},
		{"data over the limit", func(e *envelope.Envelope) { e.Data = make([]byte, envelope.MaxData+1) }, "data"},
		{"too many recipients", func(e *envelope.Envelope) { e.To = make([]string, envelope.MaxRecipients+1) }, "to"},
		{"recipient with NUL", func(e *envelope.Envelope) { e.To = []string{"Nova", "a\x00"} }, "to"},
		{"recipient not UTF-8", func(e *envelope.Envelope) { e.To = []string{"\xff"} }, "to"},
		{"recipient too long", func(e *envelope.Envelope) { e.To = []string{strings.Repeat("x", 1000)} }, "to"},
		{"too many participants", func(e *envelope.Envelope) { e.Participants = make([]envelope.Address, envelope.MaxRecipients+1) }, "participants"},
		{"too many attachments", func(e *envelope.Envelope) { e.Attachments = make([]envelope.Attachment, envelope.MaxAttachments+1) }, "attachments"},
		{"attachment", attachment(func(a *envelope.Attachment) {}), ""},
		{"attachment not UTF-8", attachment(func(a *envelope.Attachment) { a.Name = "\xff" }), "attachments"},
		{"attachment of negative size", attachment(func(a *envelope.Attachment) { a.Size = -1 }), "attachments"},
		{"attachment with a path for a sum", attachment(func(a *envelope.Attachment) { a.SHA256 = strings.Repeat("../x", 16) }), "attachments"},
		{"media type not UTF-8", attachment(func(a *envelope.Attachment) { a.MediaType = "\xff" }), "attachments"},
		{"media type too long", attachment(func(a *envelope.Attachment) { a.MediaType = strings.Repeat("x", 201) }), "attachments"},
		{"negative turn limit", func(e *envelope.Envelope) { e.TurnLimit = -1 }, "turnLimit"},
		{"negative hops", func(e *envelope.Envelope) { e.Hops = -1 }, "turnLimit"},
		{"topic of two lines", func(e *envelope.Envelope) { e.Topic = "a\nb" }, "topic"},
		{"topic not UTF-8", func(e *envelope.Envelope) { e.Topic = "\xff" }, "topic"},
		{"reason too long", func(e *envelope.Envelope) { e.Reason = strings.Repeat("x", envelope.MaxTopic+1) }, "reason"},
		{"type too long", func(e *envelope.Envelope) { e.Type = envelope.Type(strings.Repeat("x", 201)) }, "type"},
		{"about with NUL", func(e *envelope.Envelope) { e.About = "\x00" }, "about"},
		{"hosts", func(e *envelope.Envelope) { e.Hosts = map[string]string{"nyc": "0a1b2c"} }, ""},
		{"a host that is no name", func(e *envelope.Envelope) { e.Hosts = map[string]string{"NYC": "0a1b2c"} }, "hosts"},
		{"a host without id", func(e *envelope.Envelope) { e.Hosts = map[string]string{"nyc": ""} }, "hosts"},
		{"a host with an id of two lines", func(e *envelope.Envelope) { e.Hosts = map[string]string{"nyc": "a\nb"} }, "hosts"},
		{"signature too long", func(e *envelope.Envelope) { e.Signature = strings.Repeat("x", 200) }, "signature"},
		{"reply to a text of two lines", func(e *envelope.Envelope) { e.ReplyTo.ID = "a\nb" }, "replyTo"},
	} {
		e := &envelope.Envelope{Type: envelope.Message}
		test.change(e)
		wantError(t, test.name, e.Check(100), test.field)
	}
	half := make([]byte, envelope.MaxData/2)
	e := &envelope.Envelope{Unknown: []envelope.Field{{Name: "a", Value: half}, {Name: "b", Value: half}}}
	if err := e.Check(100); !errors.Is(err, envelope.ErrInvalid) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("unknown fields over the limit: got %v, want ErrInvalid that says so", err)
	}
}

func wantError(t *testing.T, name string, err error, field string) {
	t.Helper()
	switch {
	case field == "" && err != nil:
		t.Errorf("%s: got %v, want no error", name, err)
	case field != "" && (!errors.Is(err, envelope.ErrInvalid) || !strings.Contains(err.Error(), `"`+field+`"`)):
		t.Errorf("%s: got %v, want ErrInvalid that names %q", name, err, field)
	}
}
