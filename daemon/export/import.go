package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/sync/identity"
)

// Deed is what an import does with a conversation.
type Deed string

// The deeds.
const (
	Make   Deed = "make"   // there is no such log
	Extend Deed = "extend" // lines are added to a copy of another host's log
	Keep   Deed = "keep"   // what is there has all the lines
	Refuse Deed = "refuse" // what is there says otherwise
)

// Plan is what an import does with one conversation.
type Plan struct {
	Conversation string `json:"conversation"`
	Deed         Deed   `json:"deed"`
	Lines        int64  `json:"lines"`           // that are added
	Origin       string `json:"origin"`          // id of the host
	Why          string `json:"why,omitempty"`   // of Refuse
	Topic        string `json:"topic,omitempty"` // as line 1 has it
	have         int64  // lines that are there
	history      bool   // nobody is told of the lines
}

// Taken is what an import has done, or would do.
type Taken struct {
	Conversations []Plan `json:"conversations"`
	Files         int    `json:"files"` // that are in the export
}

// Refused lists the conversations that are not taken.
func (t Taken) Refused() (list []Plan) {
	for _, p := range t.Conversations {
		if p.Deed == Refuse {
			list = append(list, p)
		}
	}
	return list
}

// ErrRefused means that a conversation in the home has other lines than the import.
var ErrRefused = errors.New("a conversation here is another one")

// Import is how an export is taken into a home.
type Import struct {
	Home  *maildir.Home
	Check bool // only tell what would be done
	Skip  bool // pass over what is refused, and do the rest

	imported map[string]int64        // before this
	step     func(what string) error // for tests: asked before each change; an error ends the import there
}

const stagePrefix = durable.TempPrefix + "import-"

// Run reads an export and takes it in. It changes nothing before all was read and
// checked. Errors are ErrBad, blob.ErrTooLarge, maildir.ErrImporting, and ErrRefused, with
// which it tells what was refused. After any other error, or a crash, the same import may
// be run again.
func (im *Import) Run(ctx context.Context, r io.Reader) (Taken, error) {
	release, err := im.Home.LockImport()
	if err != nil {
		return Taken{}, err
	}
	defer release() //nolint:errcheck // the lock ends with the file
	if err := removeStages(im.Home.Dir); err != nil {
		return Taken{}, err
	}
	dir, err := os.MkdirTemp(im.Home.Dir, stagePrefix)
	if err != nil {
		return Taken{}, fmt.Errorf("import: %w", err)
	}
	taken, err := im.run(ctx, r, dir)
	return taken, errors.Join(err, os.RemoveAll(dir))
}

func (im *Import) run(ctx context.Context, r io.Reader, dir string) (Taken, error) {
	stage, err := readStream(interruptible{ctx, r}, dir, im.Home.Config.Limits.Attachment)
	if err != nil {
		return Taken{}, err
	}
	taken := Taken{Conversations: []Plan{}, Files: len(stage.files)}
	if im.imported, err = im.Home.Imported(); err != nil {
		return taken, err
	}
	for _, s := range stage.talks {
		plan, err := im.plan(s)
		if err != nil {
			return taken, err
		}
		taken.Conversations = append(taken.Conversations, plan)
	}
	if len(taken.Refused()) > 0 && !im.Skip {
		return taken, ErrRefused
	}
	if im.Check {
		return taken, nil
	}
	return taken, im.commit(ctx, stage, taken)
}

// removeStages removes what imports have left that were killed. The caller has the lock.
func removeStages(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, stagePrefix+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// plan compares a log that was read with the one that is there.
func (im *Import) plan(s *staged) (Plan, error) {
	p := Plan{Conversation: s.id, Origin: s.state.Origin, Topic: s.state.Topic}
	here, err := convlog.OpenReader(im.Home.LogPath(s.id))
	if errors.Is(err, fs.ErrNotExist) {
		p.Deed, p.Lines, p.history = Make, s.lines, true
		return p, nil
	}
	if err != nil {
		p.Deed, p.Why = Refuse, err.Error()
		return p, nil
	}
	defer here.Close()
	came, err := convlog.OpenReader(s.path)
	if err != nil {
		return p, err
	}
	defer came.Close()
	have, differs, err := compare(here, came)
	switch {
	case errors.As(err, new(*convlog.DamageError)):
		p.Deed, p.Why = Refuse, err.Error()
	case err != nil:
		return p, err
	case differs:
		p.Deed, p.Why = Refuse, fmt.Sprintf("line %d here is another one", have+1)
	case have >= s.lines:
		p.Deed = Keep
	case s.state.Origin == im.Home.Host.ID:
		p.Deed, p.Why = Refuse, fmt.Sprintf("this host gives its numbers, and has given %d; the export has %d", have, s.lines)
	case have <= im.imported[s.id]: // nothing has come to it since it was imported
		p.Deed, p.Lines, p.have, p.history = Extend, s.lines-have, have, true
	default:
		p.Deed, p.Lines, p.have = Extend, s.lines-have, have
		forged, err := im.forged(came, have)
		if forged > 0 {
			p.Deed, p.Lines, p.Why = Refuse, 0, fmt.Sprintf("line %d is by an agent of this host, which has not said it", forged)
		}
		return p, err
	}
	return p, nil
}

// forged returns the first line behind one that an agent of this host is to have said in a
// conversation of another host, and has not: this host signs what its agents say there,
// each of it once.
func (im *Import) forged(came *convlog.Reader, behind int64) (seq int64, err error) {
	keys, err := identity.ReadKeys(im.Home)
	if err != nil {
		return 0, err
	}
	var state conv.State
	said := make(map[string]bool)
	scan := came.Scan(convlog.Pos{})
	for nextValid(scan) {
		e := decode(scan.Line())
		state = state.Apply(e)
		id, _ := state.Host(e.From.Host)
		ours := id == im.Home.Host.ID || e.From.Host == im.Home.Host.Name
		if e.Seq > behind && ours && (said[e.ID] || !keys.VerifyText(e.Signed(), e.Signature)) {
			return e.Seq, nil
		}
		said[e.ID] = said[e.ID] || ours
	}
	return 0, scan.Err()
}

// compare counts the lines that two logs have in common from the start. Where both have
// another one behind them, they differ.
func compare(here, came *convlog.Reader) (same int64, differs bool, err error) {
	a, b := here.Scan(convlog.Pos{}), came.Scan(convlog.Pos{})
	for {
		first, second := nextValid(a), nextValid(b)
		if err := a.Err(); err != nil {
			return same, false, err
		}
		if err := b.Err(); err != nil {
			return same, false, err
		}
		if !first || !second {
			return same, false, nil
		}
		if !bytes.Equal(a.Line().Bytes, b.Line().Bytes) {
			return same, true, nil
		}
		same++
	}
}

func nextValid(s *convlog.Scanner) bool {
	for s.Next() {
		if !s.Line().Noise() {
			return true
		}
	}
	return false
}

// commit changes the home. Each step can be done again: what is there already when an
// import is repeated is what the one before has made.
func (im *Import) commit(ctx context.Context, st *stage, taken Taken) error {
	if err := im.takeFiles(st); err != nil {
		return fmt.Errorf("import files: %w", err)
	}
	if err := im.note(taken); err != nil { // before there are logs of which the daemon could tell anybody
		return err
	}
	for i, s := range st.talks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var err error
		switch p := taken.Conversations[i]; p.Deed {
		case Make:
			err = im.make(s)
		case Extend:
			err = im.extend(ctx, s, p.have)
		}
		if err == nil && taken.Conversations[i].Deed != Refuse {
			err = im.link(s)
		}
		if err != nil {
			return fmt.Errorf("import conversation %s: %w", s.id, err)
		}
	}
	return durable.SyncDir(im.Home.ConversationsDir())
}

func (im *Import) before(what string) error {
	if im.step == nil {
		return nil
	}
	return im.step(what)
}

// takeFiles gives the home the files that it has not got.
func (im *Import) takeFiles(st *stage) error {
	if len(st.files) == 0 {
		return nil
	}
	limit := im.Home.Config.Limits.Attachment
	have := blob.At(im.Home.BlobsDir(), limit)
	if err := durable.MkdirBelow(im.Home.Dir, im.Home.BlobsDir(), 0o700); err != nil {
		return err
	}
	for sum, size := range st.files {
		if whole(have, sum) && have.Use(sum, size, time.Now()) == nil {
			continue
		}
		if err := im.before("file"); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(st.dir, "blobs", sum), filepath.Join(im.Home.BlobsDir(), sum)); err != nil {
			return err
		}
	}
	return durable.SyncDir(im.Home.BlobsDir())
}

func whole(blobs *blob.Store, sum string) bool {
	f, err := blobs.Open(sum)
	if err != nil {
		return false
	}
	_ = f.Close() // it was only read
	return true
}

func (im *Import) note(taken Taken) error {
	var list []maildir.Imported
	for _, p := range taken.Conversations {
		if p.history {
			list = append(list, maildir.Imported{Conversation: p.Conversation, Through: p.have + p.Lines, At: time.Now().UnixMilli()})
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := im.before("note"); err != nil {
		return err
	}
	return im.Home.NoteImported(list)
}

// make gives a log its name.
func (im *Import) make(s *staged) error {
	if err := im.before("log"); err != nil {
		return err
	}
	if err := syncFile(s.path); err != nil {
		return err
	}
	return durable.RenameNew(s.path, im.Home.LogPath(s.id))
}

// link gives the agents that are in a conversation a link to it.
func (im *Import) link(s *staged) error {
	for _, m := range s.state.Members {
		dir := im.Home.AgentDir(m.Address.Name)
		if m.Address.Host != im.Home.Host.Name || !isFolder(filepath.Join(dir, mailbox.Links)) {
			continue
		}
		if err := mailbox.At(dir).Link(s.id); err != nil {
			return err
		}
	}
	return nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

const maxBatch = 1 << 20 // bytes that are appended under one lock

// errGrown means that somebody else has appended to a log meanwhile.
var errGrown = errors.New("its log has grown meanwhile: import again")

// extend appends the lines behind one to a copy of another host's log.
func (im *Import) extend(ctx context.Context, s *staged, have int64) error {
	came, err := convlog.OpenReader(s.path)
	if err != nil {
		return err
	}
	defer came.Close()
	lines, err := came.Since(have)
	if err != nil {
		return err
	}
	log, err := convlog.Open(im.Home.LogPath(s.id), convlog.Tail{}, func(convlog.Line) {}, convlog.Options{})
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		if err = im.before("lines"); err != nil {
			break
		}
		err = log.Update(ctx, func(tx *convlog.Tx) error {
			if tx.Last() != have {
				return errGrown
			}
			have, more, err = add(tx, lines, have)
			return err
		})
	}
	return errors.Join(err, log.Close())
}

// add queues the next lines for one write, and tells the last one, and whether there may
// be others.
func add(tx *convlog.Tx, lines *convlog.Scanner, last int64) (int64, bool, error) {
	for size := 0; size < maxBatch; {
		if !nextValid(lines) {
			return last, false, lines.Err()
		}
		line := lines.Line()
		e := decode(line)
		if err := tx.AddCopy(bytes.Clone(line.Bytes), e.ID, e.Timestamp); err != nil {
			return last, false, err
		}
		last = line.Seq
		size += len(line.Bytes)
	}
	return last, true, nil
}
