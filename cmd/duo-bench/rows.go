package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/fsnotify/fsnotify"
)

const (
	senders = 64
	length  = 3 * time.Second // of a row that counts
)

func oneSender(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	id, err := h.create(ctx, "one sender")
	if err != nil {
		return result{}, err
	}
	atlas := h.as("Atlas")
	return b.besideAppend(h.home.Dir, 1.3, func() error { return send(ctx, atlas, id) })
}

// besideAppend compares the median time of something with that of an append that is
// made durable, here and by a bare server.
func (b *bench) besideAppend(dir string, limit float64, duo func() error) (result, error) {
	raw, err := newRawFile(dir, 0)
	if err != nil {
		return result{}, err
	}
	defer raw.Close()
	bare, err := b.startBare()
	if err != nil {
		return result{}, err
	}
	defer bare.stop() //nolint:errcheck // its folder is removed
	m, err := inTurns(b.times(2000), duo, raw.append, bare.ask)
	if err != nil {
		return result{}, err
	}
	p50 := m[0].quantile(0.5)
	return atMost(p50, m[1].quantile(0.5), limit).besideBare(p50, m[2].quantile(0.5)), nil
}

func untilStream(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	id, err := h.create(ctx, "stream")
	if err != nil {
		return result{}, err
	}
	stream, err := h.as("Nova").Stream(ctx, api.StreamRequest{Op: api.OpSubscribe})
	if err != nil {
		return result{}, err
	}
	defer stream.Close()
	arrived, failed := arrivals(ctx, stream)
	atlas := h.as("Atlas")
	<-arrived // the invitation
	return b.besideAppend(h.home.Dir, 1.5, func() error {
		sent := make(chan error, 1)
		go func() { sent <- send(ctx, atlas, id) }()
		select {
		case <-arrived:
		case err := <-failed:
			return err
		}
		return nil
	})
}

// arrivals confirms what a stream brings, and tells of each.
func arrivals(ctx context.Context, stream *client.Stream) (<-chan struct{}, <-chan error) {
	arrived, failed := make(chan struct{}, 1024), make(chan error, 1)
	go func() {
		for {
			m, err := stream.Next(ctx)
			if err == nil {
				arrived <- struct{}{}
				err = stream.Confirm(api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}, api.Seen)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	return arrived, failed
}

// compareRates measures duo and the floor in turns of a second, and adds up.
func compareRates(duo, floor func(length time.Duration) (float64, error), limit float64) (result, error) {
	const turns = 4
	var d, f float64
	for range turns {
		got, err := duo(length / turns)
		if err != nil {
			return result{}, err
		}
		d += got
		if got, err = floor(length / turns); err != nil {
			return result{}, err
		}
		f += got
	}
	return atLeast(d/turns, f/turns, limit), nil
}

func manyConversations(ctx context.Context, b *bench) (result, error) {
	p, err := b.startParts(ctx)
	if err != nil {
		return result{}, err
	}
	defer p.stop()
	stop, err := p.listen(ctx)
	if err != nil {
		return result{}, err
	}
	defer stop()
	var ids [senders]string
	var files [senders]*rawFile
	for i := range senders {
		if ids[i], err = p.create(ctx, fmt.Sprintf("conversation %d", i)); err != nil {
			return result{}, err
		}
		if files[i], err = newRawFile(p.home.Dir, i); err != nil {
			return result{}, err
		}
		defer files[i].Close()
	}
	return compareRates(
		func(length time.Duration) (float64, error) {
			return together(senders, length, func(w int) error { return p.say(ctx, ids[w]) })
		},
		func(length time.Duration) (float64, error) {
			return together(senders, length, func(w int) error { return files[w].append() })
		}, 0.8)
}

func (p *parts) say(ctx context.Context, id string) error {
	_, err := p.accept(ctx, &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, Content: body})
	return err
}

func oneConversation(ctx context.Context, b *bench) (result, error) {
	p, err := b.startParts(ctx)
	if err != nil {
		return result{}, err
	}
	defer p.stop()
	stop, err := p.listen(ctx)
	if err != nil {
		return result{}, err
	}
	defer stop()
	id, err := p.create(ctx, "one conversation")
	if err != nil {
		return result{}, err
	}
	return b.besideGroupCommit(p.home.Dir, 0.8, func(int) error { return p.say(ctx, id) })
}

func overHTTP(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	id, err := h.create(ctx, "over HTTP")
	if err != nil {
		return result{}, err
	}
	var clients [senders]*client.Client
	for i := range clients {
		clients[i] = h.as("Atlas")
	}
	return b.besideGroupCommit(h.home.Dir, 0, func(w int) error { return send(ctx, clients[w], id) })
}

// overHTTPInMany is overHTTP with a conversation for each sender.
func overHTTPInMany(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	var ids [senders]string
	var clients [senders]*client.Client
	var files [senders]*rawFile
	for i := range senders {
		if ids[i], err = h.create(ctx, fmt.Sprintf("conversation %d", i)); err != nil {
			return result{}, err
		}
		if files[i], err = newRawFile(h.home.Dir, i); err != nil {
			return result{}, err
		}
		defer files[i].Close()
		clients[i] = h.as("Atlas")
	}
	return compareRates(
		func(length time.Duration) (float64, error) {
			return together(senders, length, func(w int) error { return send(ctx, clients[w], ids[w]) })
		},
		func(length time.Duration) (float64, error) {
			return together(senders, length, func(w int) error { return files[w].append() })
		}, 0)
}

func (b *bench) besideGroupCommit(dir string, limit float64, duo func(worker int) error) (result, error) {
	g, err := newGroupCommit(dir)
	if err != nil {
		return result{}, err
	}
	defer g.close() //nolint:errcheck // its home is removed
	return compareRates(
		func(length time.Duration) (float64, error) { return together(senders, length, duo) },
		func(length time.Duration) (float64, error) {
			return together(senders, length, func(int) error { return g.append() })
		}, limit)
}

func dropToInbox(ctx context.Context, b *bench) (result, error) {
	d, f, err := drops(ctx, b)
	if err != nil {
		return result{}, err
	}
	return atMost(d.quantile(0.5), f.quantile(0.5), 3), nil
}

func dropToInboxTail(ctx context.Context, b *bench) (result, error) {
	d, f, err := drops(ctx, b)
	if err != nil {
		return result{}, err
	}
	r := atMost(d.quantile(0.99), f.quantile(0.99), 0)
	r.ok = d.quantile(0.99) <= 20*time.Millisecond
	return r, nil
}

// drops measures a drop until its inbox file, in turns with a file that is renamed
// into a watched folder, seen, and followed by a durable append.
func drops(ctx context.Context, b *bench) (duo, floor samples, err error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return nil, nil, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	inbox, err := watching(filepath.Join(h.home.AgentDir("Nova"), mailbox.InboxNew))
	if err != nil {
		return nil, nil, err
	}
	defer inbox.Close()
	dir, err := b.folder("watched")
	if err != nil {
		return nil, nil, err
	}
	raw, err := newRawFile(dir, 0)
	if err != nil {
		return nil, nil, err
	}
	defer raw.Close()
	target := filepath.Join(dir, "new")
	if err := os.Mkdir(target, 0o700); err != nil {
		return nil, nil, err
	}
	folder, err := watching(target)
	if err != nil {
		return nil, nil, err
	}
	defer folder.Close()
	outbox := h.home.AgentDir("Atlas")
	content := []byte(`{"to":"Nova","content":"` + body + `"}`)
	m, err := inTurns(b.times(500),
		func() error {
			return dropAndWait(content, filepath.Join(outbox, mailbox.OutboxTmp), filepath.Join(outbox, mailbox.OutboxNew), inbox)
		},
		func() error {
			if err := dropAndWait(content, dir, target, folder); err != nil {
				return err
			}
			return raw.append()
		})
	if err != nil {
		return nil, nil, err
	}
	return m[0], m[1], nil
}

func watching(dir string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewBufferedWatcher(1024)
	if err != nil {
		return nil, err
	}
	return w, w.Add(dir)
}

func dropAndWait(content []byte, from, to string, until *fsnotify.Watcher) error {
	name := envelope.NewID() + ".json"
	if err := os.WriteFile(filepath.Join(from, name), content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
		return err
	}
	for {
		select {
		case e := <-until.Events:
			if e.Has(fsnotify.Create) {
				return nil
			}
		case err := <-until.Errors:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("the file does not arrive")
		}
	}
}

func wholeProcess(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	raw, err := newRawFile(h.home.Dir, 0)
	if err != nil {
		return result{}, err
	}
	defer raw.Close()
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, b.binary, args...)
		cmd.Env = append(os.Environ(), "DUO_HOME="+h.home.Dir, "DUO_AS=Atlas")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	m, err := inTurns(b.times(200), func() error { return run("message", "Nova", body) }, func() error {
		if err := run("version"); err != nil {
			return err
		}
		return raw.append()
	})
	if err != nil {
		return result{}, err
	}
	return atMost(m[0].quantile(0.5), m[1].quantile(0.5), 1.5), nil
}

// bigLog writes a log of about size bytes, without a daemon.
func bigLog(path string, size int64) (lines int64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	e := envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.Message, From: envelope.Address{Name: "Atlas", Host: "bench"},
		Conversation: envelope.NamedID("bench"), Timestamp: time.Now().UnixMilli(), After: envelope.Int(1), Content: body,
	}
	first := envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, From: e.From, Conversation: e.Conversation,
		Timestamp: e.Timestamp, Topic: "bench", Participants: []envelope.Address{e.From},
	}
	var buf []byte
	for written := int64(0); written < size; written += int64(len(buf)) {
		e.Seq++
		line := &e
		if e.Seq == 1 {
			line, first.Seq = &first, 1
		}
		buf = append(line.Append(buf[:0]), '\n')
		if _, err := w.Write(buf); err != nil {
			return 0, err
		}
	}
	return e.Seq, w.Flush()
}

func replayFile(_ context.Context, b *bench) (result, error) {
	path := filepath.Join(b.dir, "replay.jsonl")
	lines, err := bigLog(path, 200<<20)
	if err != nil {
		return result{}, err
	}
	defer os.Remove(path)
	replay := func(trust bool) (float64, error) {
		start := time.Now()
		r, err := convlog.OpenReader(path)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		if trust {
			r.Trust(r.Size())
		}
		scan := r.Scan(convlog.Pos{})
		for scan.Next() {
		}
		if scan.Pos().Seq != lines {
			return 0, fmt.Errorf("read %d of %d lines: %w", scan.Pos().Seq, lines, scan.Err())
		}
		return float64(lines) / time.Since(start).Seconds(), nil
	}
	checked, err := replay(false)
	if err != nil {
		return result{}, err
	}
	trusted, err := replay(true)
	return result{duo: rate(checked), floor: "-", ratio: rate(trusted) + " known", ok: checked >= 1e6}, err
}

func replayHTTP(ctx context.Context, b *bench) (result, error) {
	h, err := b.startHost(ctx, "Atlas", "Nova")
	if err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	id := envelope.NamedID("bench")
	path := filepath.Join(h.home.Dir, "replay.jsonl")
	lines, err := bigLog(path, 200<<20)
	if err == nil { // whole at once, as a restored backup comes
		err = os.Rename(path, h.home.LogPath(id))
	}
	if err != nil {
		return result{}, err
	}
	replay := func() (float64, error) {
		start := time.Now()
		body, err := h.as("Atlas").Transcript(ctx, id, client.Span{})
		if err != nil {
			return 0, err
		}
		defer body.Close()
		n := int64(0)
		scan := bufio.NewScanner(body)
		scan.Buffer(make([]byte, 1<<20), envelope.MaxLine)
		for scan.Scan() {
			n++
		}
		if n != lines {
			return 0, fmt.Errorf("got %d of %d lines: %w", n, lines, scan.Err())
		}
		return float64(n) / time.Since(start).Seconds(), nil
	}
	if _, err := replay(); err != nil { // the daemon reads the log for the first time
		return result{}, err
	}
	got, err := replay()
	return result{duo: rate(got), floor: "-", ratio: "-", ok: got >= 1e6}, err
}

func messageN(_ context.Context, b *bench) (result, error) {
	return b.inBigLog(func(r *convlog.Reader, lines int64) error {
		_, err := r.At(rand.Int64N(lines) + 1)
		return err
	})
}

func lastTwenty(_ context.Context, b *bench) (result, error) {
	return b.inBigLog(func(r *convlog.Reader, _ int64) error {
		last, err := r.Last(20)
		if err == nil && len(last) != 20 {
			err = fmt.Errorf("got %d lines", len(last))
		}
		return err
	})
}

func (b *bench) inBigLog(look func(r *convlog.Reader, lines int64) error) (result, error) {
	path := filepath.Join(b.dir, "big.jsonl")
	lines, err := bigLog(path, 1<<30)
	if err != nil {
		return result{}, err
	}
	defer os.Remove(path)
	r, err := convlog.OpenReader(path)
	if err != nil {
		return result{}, err
	}
	defer r.Close()
	var s samples
	for range b.times(2000) {
		took, err := timed(func() error { return look(r, lines) })
		if err != nil {
			return result{}, err
		}
		s = append(s, took)
	}
	p50 := s.quantile(0.5)
	return result{duo: round(p50), floor: "-", ratio: "p99 " + round(s.quantile(0.99)), ok: p50 < time.Millisecond}, nil
}
