package export_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func take(home *maildir.Home, text string) (export.Taken, error) {
	return (&export.Import{Home: home}).Run(context.Background(), strings.NewReader(text))
}

// deeds are what was done, by conversation.
func deeds(taken export.Taken) map[string]export.Deed {
	all := make(map[string]export.Deed)
	for _, p := range taken.Conversations {
		all[p.Conversation] = p.Deed
	}
	return all
}

// valid are the valid lines of a log.
func valid(t tb, home *maildir.Home, id string) string {
	t.Helper()
	log, err := convlog.OpenReader(home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var b strings.Builder
	scan := log.Scan(convlog.Pos{})
	for scan.Next() {
		if !scan.Line().Noise() {
			b.Write(scan.Line().Bytes)
			b.WriteByte('\n')
		}
	}
	if scan.Err() != nil {
		t.Fatal(scan.Err())
	}
	return b.String()
}

// tree is all that is in a home but for what belongs to running programs.
func tree(t tb, home *maildir.Home) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(home.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == home.RunDir() {
			if path == home.RunDir() {
				return fs.SkipDir
			}
			return err
		}
		name := strings.TrimPrefix(path, home.Dir)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			all[name], err = os.Readlink(path)
		case d.Type().IsRegular():
			data, readErr := os.ReadFile(path)
			all[name], err = string(data), readErr
		default:
			all[name] = "folder"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// drawHome makes a home with some conversations, in whose logs there is noise too.
func drawHome(t *rapid.T, dir string) (home *maildir.Home, ids []string) {
	home = newHome(t, dir, "nyc")
	people := []string{"Atlas", "Nova", "Sage"}
	for _, name := range people[:rapid.IntRange(0, 3).Draw(t, "registered")] {
		register(t, home, name)
	}
	for range rapid.IntRange(1, 4).Draw(t, "conversations") {
		var lines []*envelope.Envelope
		for range rapid.IntRange(0, 6).Draw(t, "messages") {
			e := &envelope.Envelope{From: home.Address(rapid.SampledFrom(people).Draw(t, "from")), Content: drawText(t, "content", 2000, "")}
			if rapid.Bool().Draw(t, "brings") {
				e.Attachments = []envelope.Attachment{bring(t, home, "f", "text/plain", rapid.SampledFrom([]string{"", "one", "two", strings.Repeat("big", 40_000)}).Draw(t, "file"))}
			}
			lines = append(lines, e)
		}
		id, _ := talk(t, home, drawText(t, "topic", 100, "\r\n"), people, lines...)
		ids = append(ids, id)
		addNoise(t, home.LogPath(id))
	}
	return home, ids
}

// addNoise puts lines between those of a log that readers pass over, and perhaps a
// beginning of one at its end.
func addNoise(t *rapid.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, line := range strings.SplitAfter(string(text), "\n") {
		noise := rapid.SampledFrom([]string{"", "", "", "stray\n", "{\n", "\x00\x00\n", "\n", `{"from":"Atlas","content":"x"}` + "\n", `{"seq":1}` + "\n"}).Draw(t, "noise")
		if out.Len() == 0 && strings.Contains(noise, "seq") {
			noise = "" // which would be line 1
		}
		out.WriteString(noise + line)
	}
	out.WriteString(rapid.SampledFrom([]string{"", `{"seq":99,"id":`}).Draw(t, "torn"))
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inFolder(t *rapid.T, do func(dir string)) {
	dir, err := os.MkdirTemp("", "export")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	do(dir)
}

// What is exported and imported is the same, in another home, whatever else stands in the
// logs; and nothing is left behind that belongs to nobody.
func TestWhatIsImportedIsTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		inFolder(rt, func(dir string) {
			from, ids := drawHome(rt, filepath.Join(dir, "from"))
			to := newHome(rt, filepath.Join(dir, "to"), rapid.SampledFrom([]string{"nyc", "lon"}).Draw(rt, "host"))
			register(rt, to, "Nova")
			text := write(rt, from, export.JSONL, ids...)
			if _, err := take(to, text); err != nil {
				rt.Fatal(err)
			}
			imported, err := to.Imported()
			if err != nil {
				rt.Fatal(err)
			}
			linked, err := mailbox.At(to.AgentDir("Nova")).Conversations()
			if err != nil {
				rt.Fatal(err)
			}
			if want := map[string]int{"nyc": len(ids)}[to.Host.Name]; len(linked) != want {
				rt.Fatalf("Nova has %d conversations, want %d", len(linked), want)
			}
			for _, id := range ids {
				want := valid(rt, from, id)
				got, err := os.ReadFile(to.LogPath(id))
				if err != nil || string(got) != want {
					rt.Fatalf("log (-want +got): %v\n%s", err, cmp.Diff(want, string(got)))
				}
				if n := int64(strings.Count(want, "\n")); imported[id] != n {
					rt.Fatalf("imported through %d, want %d", imported[id], n)
				}
			}
			fromBlobs, toBlobs := entries(rt, from.BlobsDir()), entries(rt, to.BlobsDir())
			if diff := cmp.Diff(fromBlobs, toBlobs); diff != "" {
				rt.Fatalf("files (-want +got):\n%s", diff)
			}
			before := tree(rt, to)
			taken, err := take(to, text)
			if err != nil {
				rt.Fatal(err)
			}
			for id, deed := range deeds(taken) {
				if deed != export.Keep {
					rt.Fatalf("again: %s of %s", deed, id)
				}
			}
			if diff := cmp.Diff(before, tree(rt, to)); diff != "" {
				rt.Fatalf("a second import has changed (-before +after):\n%s", diff)
			}
			again, _, _ := strings.Cut(write(rt, to, export.JSONL, ids...), `{"duo":"end"`)
			if got, want := onlyLines(again), onlyLines(text); got != want {
				rt.Fatalf("exported again (-want +got):\n%s", cmp.Diff(want, got))
			}
		})
	})
}

func onlyLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, `{"duo":"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func entries(t tb, dir string) map[string]string {
	all := make(map[string]string)
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = sum(string(data))
	}
	return all
}

// Whatever happens to an export on its way, it is refused, and the home is as it was.
func TestChangedExportsAreRefused(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		inFolder(rt, func(dir string) {
			from, ids := drawHome(rt, filepath.Join(dir, "from"))
			to := newHome(rt, filepath.Join(dir, "to"), "lon")
			text := write(rt, from, export.JSONL, ids...)
			changed := change(rt, text)
			if changed == text {
				return
			}
			before := tree(rt, to)
			taken, err := take(to, changed)
			if !errors.Is(err, export.ErrBad) && !errors.Is(err, export.ErrFileTooLarge) {
				rt.Fatalf("got %+v, %v; want a refusal", taken, err)
			}
			if diff := cmp.Diff(before, tree(rt, to)); diff != "" {
				rt.Fatalf("the home has changed (-before +after):\n%s", diff)
			}
		})
	})
}

func change(t *rapid.T, text string) string {
	lines := strings.SplitAfter(text, "\n")
	lines = lines[:len(lines)-1]
	i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
	j := rapid.IntRange(0, len(lines)-1).Draw(t, "other line")
	switch rapid.SampledFrom([]string{"cut", "flip", "drop", "twice", "swap", "append"}).Draw(t, "change") {
	case "cut":
		return text[:rapid.IntRange(0, len(text)-1).Draw(t, "at")]
	case "flip":
		b := []byte(text)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		return string(b)
	case "drop":
		lines[i] = ""
	case "twice":
		lines[i] += lines[i]
	case "swap":
		lines[i], lines[j] = lines[j], lines[i]
	case "append":
		return text + lines[i]
	}
	return strings.Join(lines, "")
}

const header = `{"duo":"export","version":1,"host":"nyc","hostId":"x","time":1}` + "\n"

// forge makes an export of records, and ends it as one that is whole.
func forge(conversations int, lines int64, files int, body ...string) string {
	text := header + strings.Join(body, "")
	return text + fmt.Sprintf(`{"duo":"end","conversations":%d,"lines":%d,"files":%d,"sha256":%q}`, conversations, lines, files, sum(text)) + "\n"
}

func logRecord(id string, lines ...string) string {
	text := strings.Join(lines, "")
	return fmt.Sprintf(`{"duo":"conversation","id":%q,"lines":%d,"bytes":%d,"sha256":%q}`, id, len(lines), len(text), sum(text)) + "\n" + text
}

func fileRecord(name string, size int64, pieces ...string) string {
	text := fmt.Sprintf(`{"duo":"file","sha256":%q,"size":%d}`, name, size) + "\n"
	for _, p := range pieces {
		data, _ := json.Marshal(map[string][]byte{"data": []byte(p)})
		text += string(data) + "\n"
	}
	return text
}

// An export that somebody has made with right sums cannot say what none can.
func TestForgedExportsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := newHome(t, filepath.Join(dir, "from"), "nyc")
	id, _ := talk(t, from, "one", []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a"}, &envelope.Envelope{Content: "b"})
	other, _ := talk(t, from, "two", []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "c"})
	lines := strings.SplitAfter(strings.TrimSuffix(valid(t, from, id), "\n")+"\n", "\n")[:3]
	foreign := strings.SplitAfter(valid(t, from, other), "\n")[:2]
	deep := `{"seq":3,"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}\n"
	for name, test := range map[string]struct {
		text string
		want string
	}{
		"nothing":               {"", "ends here"},
		"something else":        {"hello\n", "does not begin as an export of duo does"},
		"a log":                 {lines[0], "does not begin as an export of duo does"},
		"a later version":       {strings.Replace(forge(0, 0, 0), `"version":1`, `"version":2`, 1), "version 2"},
		"an unknown record":     {forge(0, 0, 0, `{"duo":"script"}`+"\n"), `record "script" is not known`},
		"no record":             {forge(0, 0, 0, `[1]`+"\n"), "it is no record"},
		"a path as id":          {forge(1, 3, 0, logRecord("../../key", lines...)), "is no id"},
		"an id in capitals":     {forge(1, 3, 0, logRecord(strings.ToUpper(id), lines...)), "is no id"},
		"twice":                 {forge(2, 6, 0, logRecord(id, lines...), logRecord(id, lines...)), "comes twice"},
		"another conversation":  {forge(1, 3, 0, logRecord(other, lines...)), "does not create this conversation"},
		"a line of another one": {forge(1, 3, 0, logRecord(id, lines[0], lines[1], strings.Replace(foreign[1], `"seq":2`, `"seq":3`, 1))), "it is of conversation"},
		"another origin":        {forge(1, 3, 0, logRecord(id, strings.Replace(lines[0], from.Host.ID, "somebodyelse", 1), lines[1], lines[2])), "does not create this conversation"},
		"other bytes":           {forge(1, 3, 0, strings.Replace(logRecord(id, lines...), `"sha256":"`, `"sha256":"0`, 1)), "not those that were exported"},
		"no first line":         {forge(1, 2, 0, logRecord(id, lines[1], lines[2])), "conversation"},
		"a gap":                 {forge(1, 2, 0, logRecord(id, lines[0], lines[2])), "damaged"},
		"a line twice":          {forge(1, 4, 0, logRecord(id, lines[0], lines[1], lines[1], lines[2])), "is not line 3 of a log"},
		"no line of a log":      {forge(1, 3, 0, logRecord(id, lines[0], lines[1], "hello\n")), "is not line 3 of a log"},
		"too deep a line":       {forge(1, 3, 0, logRecord(id, lines[0], lines[1], deep)), "is not line 3 of a log"},
		"too many lines":        {forge(1, 9, 0, strings.Replace(logRecord(id, lines...), `"lines":3`, `"lines":9007199254740991`, 1)), "ends here"},
		"lines below none":      {forge(1, 3, 0, strings.Replace(logRecord(id, lines...), `"lines":3`, `"lines":-3`, 1)), "-3 lines"},
		"an endless line":       {header + strings.Repeat("x", envelope.MaxLine+2), "over 8388608 bytes"},
		"a file that is a path": {forge(0, 0, 1, fileRecord("../../key", 1, "x")), "is no SHA-256"},
		"another file":          {forge(0, 0, 1, fileRecord(sum("y"), 1, "x")), "is not file"},
		"a file twice":          {forge(0, 0, 2, fileRecord(sum("x"), 1, "x"), fileRecord(sum("x"), 1, "x")), "comes twice"},
		"a longer file":         {forge(0, 0, 1, fileRecord(sum("xy"), 1, "xy")), "2 bytes of a file of which 1 are left"},
		"a shorter file":        {forge(0, 0, 1, fileRecord(sum("x"), 2, "x")), "bytes of a file"},
		"an empty piece":        {forge(0, 0, 1, fileRecord(sum("x"), 1, "", "x")), "0 bytes"},
		"bytes below none":      {forge(0, 0, 1, fileRecord(sum("x"), -1, "x")), "-1 bytes"},
		"a huge file":           {forge(0, 0, 1, fileRecord(sum("x"), 1<<40, "x")), "this home takes"},
		"other counts":          {forge(2, 3, 0, logRecord(id, lines...)), "not as it was written"},
		"more behind the end":   {forge(1, 3, 0, logRecord(id, lines...)) + "\n", "more behind the end"},
	} {
		to := newHome(t, filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), "lon")
		before := tree(t, to)
		_, err := take(to, test.text)
		if !errors.Is(err, export.ErrBad) && !errors.Is(err, export.ErrFileTooLarge) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want a refusal with %q", name, err, test.want)
		}
		if diff := cmp.Diff(before, tree(t, to)); diff != "" {
			t.Errorf("%s: the home has changed (-before +after):\n%s", name, diff)
		}
	}
	to := newHome(t, filepath.Join(dir, "sound"), "lon")
	if _, err := take(to, forge(1, 3, 1, logRecord(id, lines...), fileRecord(sum("xy"), 2, "x", "y"))); err != nil {
		t.Errorf("a sound one: %v", err)
	}
}

// grow appends messages to a log.
func grow(t tb, home *maildir.Home, id string, contents ...string) {
	t.Helper()
	log, err := convlog.Open(home.LogPath(id), convlog.Tail{}, func(convlog.Line) {}, convlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = log.Update(context.Background(), func(tx *convlog.Tx) error {
		for _, content := range contents {
			e := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: home.Address("Atlas"), Conversation: id, Content: content}
			if err := tx.Add(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLogsThatAreThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := newHome(t, filepath.Join(dir, "from"), "nyc")
	id, _ := talk(t, from, "one", []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a"})
	early := write(t, from, export.JSONL, id)
	to := newHome(t, filepath.Join(dir, "to"), "lon")
	if _, err := take(to, early); err != nil {
		t.Fatal(err)
	}
	var big []string
	for i := range 40 { // of more bytes than are appended at once
		big = append(big, strings.Repeat(fmt.Sprint(i%10), 100_000))
	}
	grow(t, from, id, big...)
	late := write(t, from, export.JSONL, id)

	taken, err := take(to, late)
	if err != nil || deeds(taken)[id] != export.Extend || taken.Conversations[0].Lines != 40 {
		t.Errorf("a copy is extended: got %+v, %v", taken, err)
	}
	if got, want := valid(t, to, id), valid(t, from, id); got != want {
		t.Error("the copy has other lines")
	}
	if imported, err := to.Imported(); err != nil || imported[id] != 42 {
		t.Errorf("got %v, %v: want all to be history, as nothing has come but by imports", imported, err)
	}
	if taken, err = take(to, early); err != nil || deeds(taken)[id] != export.Keep {
		t.Errorf("a longer log: got %+v, %v", taken, err)
	}

	// What has come to a copy by another way is mail, and so is what comes behind it.
	grow(t, from, id, "by link")
	line := strings.SplitAfter(valid(t, from, id), "\n")[42]
	appendTo(t, to.LogPath(id), line)
	grow(t, from, id, "by import")
	if taken, err = take(to, write(t, from, export.JSONL, id)); err != nil || deeds(taken)[id] != export.Extend {
		t.Errorf("got %+v, %v", taken, err)
	}
	if imported, err := to.Imported(); err != nil || imported[id] != 42 {
		t.Errorf("got %v, %v: want no more to be history", imported, err)
	}

	// A link may bring lines at the same moment.
	grow(t, from, id, "by link", "by import")
	racing := &export.Import{Home: to}
	racing.SetStep(func(what string) error {
		if what == "lines" {
			appendTo(t, to.LogPath(id), strings.SplitAfter(valid(t, from, id), "\n")[44])
		}
		return nil
	})
	text := write(t, from, export.JSONL, id)
	if _, err := racing.Run(context.Background(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "import again") {
		t.Errorf("a log that has grown meanwhile: got %v", err)
	}
	if _, err := take(to, text); err != nil || valid(t, to, id) != valid(t, from, id) {
		t.Errorf("again: %v", err)
	}

	// The origin does not extend its own log.
	own := newHome(t, filepath.Join(dir, "own"), "nyc")
	own.Host = from.Host
	if _, err := take(own, early); err != nil {
		t.Fatal(err)
	}
	taken, err = take(own, late)
	if !errors.Is(err, export.ErrRefused) || deeds(taken)[id] != export.Refuse {
		t.Errorf("the origin's own: got %+v, %v", taken, err)
	}

	// Another line is refused, and all else with it, unless it is passed over.
	fork := newHome(t, filepath.Join(dir, "fork"), "lon")
	if _, err := take(fork, early); err != nil {
		t.Fatal(err)
	}
	grow(t, fork, id, "fork")
	second, _ := talk(t, from, "two", []string{"Atlas"})
	both := write(t, from, export.JSONL, id, second)
	before := tree(t, fork)
	taken, err = take(fork, both)
	if !errors.Is(err, export.ErrRefused) || deeds(taken)[id] != export.Refuse || deeds(taken)[second] != export.Make {
		t.Errorf("another line: got %+v, %v", taken, err)
	}
	if diff := cmp.Diff(before, tree(t, fork)); diff != "" {
		t.Errorf("the home has changed (-before +after):\n%s", diff)
	}
	if refused := taken.Refused(); len(refused) != 1 || !strings.Contains(refused[0].Why, "line 3") {
		t.Errorf("got %+v, want the line to be named", refused)
	}
	taken, err = (&export.Import{Home: fork, Check: true, Skip: true}).Run(context.Background(), strings.NewReader(both))
	if err != nil || deeds(taken)[second] != export.Make || cmp.Diff(before, tree(t, fork)) != "" {
		t.Errorf("only checked: got %+v, %v", taken, err)
	}
	if _, err = (&export.Import{Home: fork, Skip: true}).Run(context.Background(), strings.NewReader(both)); err != nil || valid(t, fork, second) != valid(t, from, second) {
		t.Errorf("passed over: %v", err)
	}
}

func appendTo(t tb, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// An import that ends at any of its changes leaves whole logs and files, and can be done
// again.
func TestImportsThatAreCutShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := newHome(t, filepath.Join(dir, "from"), "nyc")
	var ids []string
	for i := range 3 {
		a := bring(t, from, "f", "text/plain", fmt.Sprint("file ", i))
		id, _ := talk(t, from, fmt.Sprint(i), []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a", Attachments: []envelope.Attachment{a}})
		ids = append(ids, id)
	}
	early := write(t, from, export.JSONL, ids[0])
	var big []string
	for range 25 {
		big = append(big, strings.Repeat("x", 100_000))
	}
	grow(t, from, ids[0], big...)
	text := write(t, from, export.JSONL, ids...)
	crash := errors.New("crash")
	for steps := 0; ; steps++ {
		to := newHome(t, filepath.Join(dir, fmt.Sprint("to", steps)), "lon")
		if _, err := take(to, early); err != nil {
			t.Fatal(err)
		}
		im := &export.Import{Home: to}
		left := steps
		im.SetStep(func(string) error {
			if left--; left < 0 {
				return crash
			}
			return nil
		})
		_, err := im.Run(context.Background(), strings.NewReader(text))
		if err != nil && !errors.Is(err, crash) {
			t.Fatal(err)
		}
		wantWholeBeginnings(t, from, to, ids)
		if err == nil {
			if steps < 8 {
				t.Errorf("it had only %d steps", steps)
			}
			return
		}
		if _, err := take(to, text); err != nil {
			t.Fatalf("again behind step %d: %v", steps, err)
		}
		for _, id := range ids {
			if valid(t, from, id) != valid(t, to, id) {
				t.Errorf("again behind step %d: conversation %s is another one", steps, id)
			}
		}
	}
}

// wantWholeBeginnings wants every log in a home to be the beginning of another home's, to
// have its files, and to be noted as history if it was made.
func wantWholeBeginnings(t *testing.T, from, to *maildir.Home, ids []string) {
	t.Helper()
	imported, err := to.Imported()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := os.Stat(to.LogPath(id)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		data, err := os.ReadFile(to.LogPath(id))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(valid(t, from, id), string(data)) || !bytes.HasSuffix(data, []byte("\n")) {
			t.Errorf("log of %s is no beginning", id)
		}
		if imported[id] == 0 {
			t.Errorf("log of %s is not history", id)
		}
		for line := range strings.Lines(string(data)) {
			e, err := envelope.Decode([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range e.Attachments {
				f, err := blob.At(to.BlobsDir(), 1<<30).Open(a.SHA256)
				if err != nil {
					t.Errorf("a file of %s: %v", id, err)
					continue
				}
				f.Close()
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(to.Dir, ".tmp-import-*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestOneImportAtATime(t *testing.T) {
	t.Parallel()
	home := newHome(t, filepath.Join(t.TempDir(), "h"), "nyc")
	release, err := home.LockImport()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(home, forge(0, 0, 0)); !errors.Is(err, maildir.ErrImporting) {
		t.Errorf("got %v, want that another one runs", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(home.Dir, ".tmp-import-dead", "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := take(home, forge(0, 0, 0)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(home.Dir, ".tmp-import-dead")); err == nil {
		t.Error("what was killed is still there")
	}
}

// What the form is, to the byte.
func TestStream(t *testing.T) {
	t.Parallel()
	home := newHome(t, filepath.Join(t.TempDir(), "h"), "nyc")
	register(t, home, "Nova")
	big := strings.Repeat("0123456789abcdef", 4000) // two pieces
	a := bring(t, home, "big", "text/plain", big)
	missing := envelope.Attachment{Name: "gone", MediaType: "text/plain", Size: 5, SHA256: sum("gone!")}
	empty := bring(t, home, "none", "text/plain", "")
	id, _ := talk(t, home, "T", []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a", Attachments: []envelope.Attachment{a, missing, empty, a}})
	lines := valid(t, home, id)
	text := write(t, home, export.JSONL, id)
	var head struct {
		Duo, Host, HostID string
		Version           int
		Time              int64
	}
	first, rest, _ := strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(first), &head); err != nil || head.Duo != "export" || head.Version != 1 || head.Host != "nyc" || head.HostID != home.Host.ID || head.Time == 0 {
		t.Errorf("got %s, %v", first, err)
	}
	agent, rest, _ := strings.Cut(rest, "\n")
	if !strings.HasPrefix(agent, `{"duo":"agent","address":"Nova@nyc","id":"`) {
		t.Errorf("got %s, want Nova's card, and none of Atlas who is not here", agent)
	}
	want := fmt.Sprintf(`{"duo":"conversation","id":%q,"origin":%q,"topic":"T","lines":2,"bytes":%d,"sha256":%q}`, id, home.Host.ID, len(lines), sum(lines)) + "\n" +
		lines + fileRecord(a.SHA256, int64(len(big)), big[:49152], big[49152:]) +
		fmt.Sprintf(`{"duo":"file","sha256":%q,"size":5,"missing":"is not here any more"}`, missing.SHA256) + "\n" + fileRecord(empty.SHA256, 0)
	end := strings.LastIndex(text, `{"duo":"end"`)
	want += fmt.Sprintf(`{"duo":"end","conversations":1,"lines":2,"files":2,"sha256":%q}`, sum(text[:end])) + "\n"
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Nobody is told by an import what an agent of this host is to have said to another host,
// unless this host has signed it.
func TestImportSpeaksForNobodyHere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nyc, lon := newHome(t, filepath.Join(dir, "nyc"), "nyc"), newHome(t, filepath.Join(dir, "lon"), "lon")
	key, err := maildir.ReadKey(lon.KeyPath())
	if err != nil {
		t.Fatal(err)
	}
	bob := func(content string) *envelope.Envelope {
		return &envelope.Envelope{
			ID: envelope.NewID(), Type: envelope.Message, From: lon.Address("Bob"), Content: content, After: envelope.Int(1),
		}
	}
	again := bob("hi")
	again.ID = envelope.NamedID("join")
	for what, c := range map[string]struct {
		last *envelope.Envelope
		sign bool
		want export.Deed
	}{
		"an agent of the origin": {&envelope.Envelope{Content: "hi"}, false, export.Extend},
		"ours, signed":           {bob("hi"), true, export.Extend},
		"ours, said before":      {again, true, export.Refuse},
		"ours, not signed":       {bob("hi"), false, export.Refuse},
		"the end of a call":      {&envelope.Envelope{Type: envelope.System, Event: envelope.EventClose, From: lon.Address("Bob"), Reason: "agreed", Auto: true}, false, export.Refuse},
		"ours, in other letters": {&envelope.Envelope{Content: "hi", From: envelope.Address{Name: "bOB", Host: "lon"}, Signature: "c2ln"}, false, export.Refuse},
		"ours, by another name":  {&envelope.Envelope{Content: "hi", From: envelope.Address{Name: "Bob", Host: "london"}}, false, export.Refuse},
	} {
		join := &envelope.Envelope{ID: again.ID, Type: envelope.Join, From: lon.Address("Bob"), Hosts: map[string]string{"lon": lon.Host.ID, "london": lon.Host.ID}}
		id, lines := talk(t, nyc, what, []string{"Atlas"}, join)
		early := valid(t, nyc, id)
		last := c.last
		last.Conversation, last.Seq = id, int64(len(lines)+1)
		if last.ID == "" {
			last.ID = envelope.NewID()
		}
		if last.Type == "" {
			last.Type = envelope.Message
		}
		if last.From.IsZero() {
			last.From = nyc.Address("Atlas")
		}
		if c.sign {
			last.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, last.Signed()))
		}
		last.Timestamp = 1739654400999
		appendTo(t, nyc.LogPath(id), string(last.Append(nil))+"\n")
		if err := os.WriteFile(lon.LogPath(id), []byte(early), 0o600); err != nil { // by link
			t.Fatal(err)
		}
		taken, err := take(lon, write(t, nyc, export.JSONL, id))
		if got := deeds(taken)[id]; got != c.want || errors.Is(err, export.ErrRefused) != (c.want == export.Refuse) {
			t.Errorf("%s: got %+v, %v, want %s", what, taken, err, c.want)
		}
	}
}

// A line of which no door lets one in is none of an import either.
func TestLimitsOfImportedLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := newHome(t, filepath.Join(dir, "from"), "nyc"), newHome(t, filepath.Join(dir, "to"), "lon")
	for what, line := range map[string]*envelope.Envelope{
		"a path for a name": {Attachments: []envelope.Attachment{{Name: "../../x", MediaType: "text/plain", SHA256: sum("x"), Size: 1}}},
		"a long reason":     {Type: envelope.System, Event: envelope.EventClose, Reason: strings.Repeat("x", 5000)},
	} {
		id, _ := talk(t, from, what, []string{"Atlas"}, line)
		if _, err := take(to, write(t, from, export.JSONL, id)); !errors.Is(err, export.ErrBad) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: got %v, want line 2 to be refused", what, err)
		}
	}
}
