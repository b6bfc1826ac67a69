package export_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// mail is a message as Python's mailbox and email read it.
type mail struct {
	From       [][2]string       `json:"from"`
	To         [][2]string       `json:"to"`
	Date       int64             `json:"date"`
	Subject    string            `json:"subject"`
	ID         string            `json:"id"`
	Parent     string            `json:"parent"`
	References []string          `json:"references"`
	Headers    map[string]string `json:"headers"`
	Names      []string          `json:"names"`
	Text       string            `json:"text"`
	Files      []mailFile        `json:"files"`
	Defects    []string          `json:"defects"`
}

type mailFile struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// python reads mailboxes with Python.
type python struct {
	in  io.Writer
	out *bufio.Reader
	dir string
}

func startPython(t *testing.T) *python {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here: mailboxes are not read by another program")
	}
	cmd := exec.Command(path, "testdata/read_mbox.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("python3: %v", err)
		}
	})
	return &python{in: in, out: bufio.NewReader(out), dir: t.TempDir()}
}

func (p *python) read(t tb, text string) (list []mail) {
	t.Helper()
	path := filepath.Join(p.dir, "mbox")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(p.in, path)
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("python3 answers nothing: %v; the mailbox was\n%s", err, text)
	}
	if err := json.Unmarshal([]byte(line), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// wantMail is what a mail program has to see of a log: who, when, in which place of the
// thread, what, and which files.
func wantMail(home *maildir.Home, all []*envelope.Envelope) (list []mail) {
	people := func(a envelope.Address) [2]string {
		return [2]string{a.Name, a.Name + "@" + a.Host + ".duo.invalid"}
	}
	id := func(e *envelope.Envelope) string { return "<" + e.ID + "." + e.Conversation + "@duo.invalid>" }
	for _, e := range all {
		m := mail{From: [][2]string{people(e.From)}, Date: e.Timestamp / 1000, Subject: all[0].Topic, ID: id(e), References: []string{}}
		for _, a := range all[0].Participants {
			if !a.Same(e.From) {
				m.To = append(m.To, people(a))
			}
		}
		if e.Seq > 1 {
			m.Parent = id(all[0])
			for up := e; up.ReplyTo.Seq > 1; up = all[up.ReplyTo.Seq-1] {
				m.References = append(m.References, id(all[up.ReplyTo.Seq-1]))
			}
			m.References = m.References[:min(len(m.References), 16)]
			if len(m.References) > 0 {
				m.Parent = m.References[0]
			}
			m.References = append(m.References, id(all[0]))
			slices.Reverse(m.References)
		}
		if e.Type == envelope.Message {
			m.Text = e.Content + "\n"
		}
		for _, a := range e.Attachments {
			m.Files = append(m.Files, mailFile{a.Name, a.MediaType, a.SHA256, a.Size})
		}
		list = append(list, m)
	}
	return list
}

func compareMail(t tb, got, want []mail) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d messages, want %d", len(got), len(want))
	}
	for i := range got {
		g := got[i]
		if len(g.Defects) > 0 {
			t.Fatalf("message %d: defects %q", i+1, g.Defects)
		}
		g.Headers, g.Names = nil, nil
		if i == 0 {
			g.Text = "" // of an event
		}
		if diff := cmp.Diff(want[i], g, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("message %d (-want +got):\n%s", i+1, diff)
		}
	}
}

// Whatever somebody writes, another program reads the same people, times, threads, texts
// and files.
func TestMailboxesAreReadByPython(t *testing.T) {
	t.Parallel()
	py := startPython(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(py.dir, "home")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		home := newHome(rt, filepath.Join(dir, "h"), rapid.StringMatching(`[a-z][a-z0-9-]{0,20}[a-z0-9]`).Draw(rt, "host"))
		people := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z][A-Za-z0-9_-]{0,31}`), 1, 5, strings.ToLower).Draw(rt, "people")
		var lines []*envelope.Envelope
		for i := range rapid.IntRange(0, 12).Draw(rt, "messages") {
			e := &envelope.Envelope{From: home.Address(rapid.SampledFrom(people).Draw(rt, "from")), Content: drawText(rt, "content", 4000, "")}
			e.ReplyTo.Seq = rapid.Int64Range(0, int64(i+1)).Draw(rt, "replyTo")
			for range rapid.IntRange(0, 2).Draw(rt, "files") {
				name := drawText(rt, "name", 80, "/\\\r\n")
				if strings.Trim(name, ".") == "" {
					name = "file" + name
				}
				kind := rapid.SampledFrom([]string{"image/png", "text/plain", "application/x-thing"}).Draw(rt, "kind")
				e.Attachments = append(e.Attachments, bring(rt, home, name, kind, drawText(rt, "file", 1<<20, "")))
			}
			lines = append(lines, e)
		}
		topic := drawText(rt, "topic", 500, "\r\n")
		if topic == "" {
			topic = "talk"
		}
		id, all := talk(rt, home, topic, people, lines...)
		compareMail(rt, py.read(rt, write(rt, home, export.Mbox, id)), wantMail(home, all))
	})
}

// What duo knows of a line stands in headers, and what happened in sentences.
func TestHeadersOfDuo(t *testing.T) {
	t.Parallel()
	py := startPython(t)
	home := newHome(t, filepath.Join(t.TempDir(), "h"), "nyc")
	nova := home.Address("Nova")
	id, all := talk(t, home, "T", []string{"Atlas", "Nova"},
		&envelope.Envelope{Content: "one", After: envelope.Int(1)},
		&envelope.Envelope{Content: "two", From: nova, After: envelope.Int(1), Auto: true, Data: []byte(`{"a":1}`)},
		&envelope.Envelope{Type: envelope.Leave, From: nova, Reason: "done\u202e"},
	)
	got := py.read(t, write(t, home, export.Mbox, id))
	for i, want := range []map[string]string{
		{"X-Duo-Type": "system/create"},
		{"X-Duo-Type": "message", "X-Duo-After": "1"},
		{"X-Duo-Type": "message", "X-Duo-After": "1", "X-Duo-Crossed": "2", "X-Duo-Auto": "yes"},
		{"X-Duo-Type": "leave"},
	} {
		want["X-Duo-Conversation"], want["X-Duo-Seq"], want["X-Duo-Timestamp"] = id, fmt.Sprint(i+1), fmt.Sprint(all[i].Timestamp)
		if diff := cmp.Diff(want, got[i].Headers); diff != "" {
			t.Errorf("message %d (-want +got):\n%s", i+1, diff)
		}
	}
	for i, want := range map[int]string{0: "Atlas@nyc created the conversation with Nova@nyc.\n", 3: "Nova@nyc left: \"done\\u{202E}\"\n"} {
		if got[i].Text != want {
			t.Errorf("message %d: got %q, want %q", i+1, got[i].Text, want)
		}
	}
	if data := got[2].Files; len(data) != 1 || data[0] != (mailFile{"data.json", "application/json", sum(`{"a":1}`), 7}) {
		t.Errorf("data: got %+v", data)
	}
}
