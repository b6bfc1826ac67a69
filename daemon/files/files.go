// Package files takes the files that messages bring, keeps those that a message is about
// to mention, and removes what nothing mentions. docs/attachments.md says what holds.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// unused is how long a blob stays that nothing mentions.
const unused = 24 * time.Hour

// When to ask again for a file that is on its way.
const (
	soonRetry = 2 * time.Second
	awayRetry = 30 * time.Second
)

// Index remembers in which file a blob was found to be mentioned.
type Index interface {
	Get(key string) ([]byte, bool)
	Put(key string, value []byte) error
}

// Keeper keeps the blobs of one home. Its methods may be used by several goroutines.
type Keeper struct {
	home   *maildir.Home
	store  *blob.Store
	index  Index
	logger *slog.Logger
	now    func() time.Time
	wants  *wants

	mu      sync.Mutex
	uploads map[upload]time.Time
}

// upload is what an agent has shown that it has.
type upload struct{ agent, sum string }

// New returns the keeper of a home's blobs.
func New(home *maildir.Home, index Index, logger *slog.Logger, now func() time.Time) *Keeper {
	store := blob.At(home.BlobsDir(), home.Config.Limits.Attachment)
	return &Keeper{
		home: home, store: store, index: index, logger: logger, now: now, wants: newWants(home, store, logger, now),
		uploads: make(map[upload]time.Time),
	}
}

// Take stores what an agent has, durably, and returns how a message mentions it. Where no
// media type is said, it is guessed.
func (k *Keeper) Take(agent, name, mediaType string, r io.Reader) (envelope.Attachment, error) {
	a := envelope.Attachment{Name: name, MediaType: said(mediaType), SHA256: strings.Repeat("0", 64)}
	if err := check(a); err != nil { // before all of it has come
		return envelope.Attachment{}, err
	}
	stored, err := k.store.Put(r)
	switch {
	case errors.Is(err, blob.ErrTooLarge):
		return envelope.Attachment{}, api.Errorf(api.TooLarge, "%q is over the limit of %d bytes", name, k.home.Config.Limits.Attachment)
	case err != nil:
		return envelope.Attachment{}, failure(name, err)
	}
	a.Size, a.SHA256 = stored.Size, stored.SHA256
	if a.MediaType == "" {
		a.MediaType = http.DetectContentType(stored.Head)
	}
	k.mu.Lock()
	k.uploads[upload{strings.ToLower(agent), a.SHA256}] = k.now()
	k.mu.Unlock()
	return a, nil
}

func check(a envelope.Attachment) error {
	if err := (&envelope.Envelope{Attachments: []envelope.Attachment{a}}).Check(envelope.MaxContent); err != nil {
		return api.Errorf(api.BadRequest, "%w", err)
	}
	return nil
}

// said is a media type as somebody has said it, empty where that is none: programs send
// these without having been told to.
func said(mediaType string) string {
	kind, _, err := mime.ParseMediaType(mediaType)
	if err != nil || !strings.Contains(kind, "/") || kind == "application/octet-stream" || kind == "application/x-www-form-urlencoded" {
		return ""
	}
	return strings.TrimSpace(mediaType)
}

// Uploaded reports whether an agent has uploaded a blob not long ago.
func (k *Keeper) Uploaded(agent, sum string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.uploads[upload{strings.ToLower(agent), sum}]
	return ok && at.After(k.now().Add(-unused))
}

// Claim sees to it that the blobs are there that a message is about to mention, and stay.
func (k *Keeper) Claim(list []envelope.Attachment) error {
	for _, a := range list {
		err := k.store.Use(a.SHA256, a.Size, k.now())
		switch {
		case errors.Is(err, blob.ErrDamaged), errors.Is(err, durable.ErrForeign):
			return api.Errorf(api.BadRequest, "attachment %q: %w; upload it again", a.Name, err)
		case err != nil:
			return failure(a.Name, err)
		}
	}
	return nil
}

// Wanted notes, durably, which files a line of another host brings, before the line is
// stored. Those that are not here are got from the host, named as in addresses, when there
// is a link.
func (k *Keeper) Wanted(host, conversation string, seq int64, list []envelope.Attachment) error {
	return k.want(blob.Source{Host: host, Conversation: conversation, Seq: seq}, list)
}

// WantedOf is Wanted for lines of a replica, which host has sent. The hosts of their
// authors may be asked, too.
func (k *Keeper) WantedOf(host, conversation string, lines []ledger.Stored) error {
	for _, line := range lines {
		e := line.Envelope
		if len(e.Attachments) == 0 {
			continue
		}
		if err := k.Wanted(host, conversation, e.Seq, e.Attachments); err != nil {
			return err
		}
		if author := e.From.Host; author != "" && !strings.EqualFold(author, host) && !strings.EqualFold(author, k.home.Host.Name) {
			if err := k.Wanted(author, conversation, e.Seq, e.Attachments); err != nil {
				return err
			}
		}
	}
	return nil
}

// Expect is Wanted for a message of another host to which this host is about to give a
// number. It refuses files that this host does not take.
func (k *Keeper) Expect(host, conversation string, list []envelope.Attachment) error {
	for _, a := range list {
		if limit := k.home.Config.Limits.Attachment; a.Size > limit {
			return api.Errorf(api.TooLarge, "%q is over the limit of %d bytes of %s", a.Name, limit, k.home.Host.Name)
		}
	}
	return k.Wanted(host, conversation, 0, list)
}

// WantedOfCall is Wanted for what a call of another host brings.
func (k *Keeper) WantedOfCall(host, request string, list []envelope.Attachment) error {
	return k.want(blob.Source{Host: host, Request: request}, list)
}

func (k *Keeper) want(from blob.Source, list []envelope.Attachment) error {
	for _, a := range list {
		if err := k.wants.add(a, from); err != nil {
			return failure(a.Name, err)
		}
	}
	return nil
}

// Absent says why a file is not here that a place brings. Where other hosts may have it, it
// is asked for again, however long ago that was given up.
func (k *Keeper) Absent(a envelope.Attachment, places ...blob.Source) error {
	gone := api.Errorf(api.AttachmentNotFound, "the file %q is not here any more", a.Name).WithNext("duo fsck")
	if limit := k.home.Config.Limits.Attachment; a.Size > limit && len(places) > 0 {
		return api.Errorf(api.TooLarge, "the file %q has %d bytes, and this host takes %d: see limits.attachment", a.Name, a.Size, limit)
	}
	for _, from := range places {
		if err := k.wants.add(a, from); err != nil {
			return failure(a.Name, err)
		}
	}
	state, soon, ok := k.wants.state(a.SHA256)
	if !ok {
		return gone
	}
	retry := awayRetry
	if soon {
		retry = soonRetry
	}
	return api.Errorf(api.OnItsWay, "the file %q %s", a.Name, state).WithRetry(retry)
}

// Open opens a blob, after it was checked.
func (k *Keeper) Open(sum string) (*os.File, error) {
	f, err := k.store.Open(sum)
	switch {
	case errors.Is(err, blob.ErrDamaged), errors.Is(err, durable.ErrForeign):
		k.logger.Error("blob is damaged", "path", filepath.Join(k.home.BlobsDir(), sum), "err", err)
		return nil, api.Errorf(api.Damaged, "%w", err)
	case err != nil:
		return nil, failure(sum, err)
	}
	return f, nil
}

// failure is the error of an attachment that is not there, or of the disk.
func failure(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.AttachmentNotFound, "the file %q is not here: upload it first", name)
	case durable.DiskFailed(err), errors.Is(err, fs.ErrPermission):
		return api.Errorf(api.StorageFailed, "the file %q is not stored: %w", name, err).WithNext("duo status")
	}
	return fmt.Errorf("attachment %q: %w", name, err)
}

// Sweep removes the blobs that nothing mentions and nobody has used for long. Where that
// cannot be told of all, it removes none.
func (k *Keeper) Sweep(ctx context.Context) error {
	before := k.now().Add(-unused)
	k.forget(before)
	if err := k.wants.sweep(ctx); err != nil {
		return err
	}
	if err := maildir.RemoveTempsBefore(k.home.BlobsDir(), before); err != nil {
		return err
	}
	old, err := k.store.Old(before)
	if err != nil {
		return err
	}
	left := make(map[string]bool)
	for _, sum := range old {
		if !k.known(sum) {
			left[sum] = true
		}
	}
	if len(left) == 0 {
		return nil
	}
	if err := k.findMentions(ctx, left); err != nil {
		return fmt.Errorf("look for mentions of blobs: %w", err)
	}
	for sum := range left {
		removed, err := k.store.Remove(sum, before)
		if err != nil {
			return err
		}
		if removed {
			k.logger.Info("blob is removed: nothing mentions it", "path", filepath.Join(k.home.BlobsDir(), sum))
		}
	}
	return nil
}

// forget drops what is remembered of uploads before a time.
func (k *Keeper) forget(before time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for u, at := range k.uploads {
		if at.Before(before) {
			delete(k.uploads, u)
		}
	}
}

func indexKey(sum string) string { return "blob:" + sum }

// known reports whether a log that is still there is known to mention a blob. Logs are
// never cut.
func (k *Keeper) known(sum string) bool {
	conversation, ok := k.index.Get(indexKey(sum))
	if !ok {
		return false
	}
	_, err := os.Lstat(k.home.LogPath(string(conversation)))
	return err == nil
}

// findMentions takes out of left what something mentions: a drop, an open call, what waits
// for another host, or a log. It reads them in this order, in which mentions move.
func (k *Keeper) findMentions(ctx context.Context, left map[string]bool) error {
	agents, err := k.home.Agents()
	if err != nil {
		return err
	}
	var dirs []string
	for _, name := range agents {
		dirs = append(dirs, filepath.Join(k.home.AgentDir(name), mailbox.OutboxNew))
	}
	dirs = append(dirs, k.home.OpenRequestsDir(), k.home.PeersDir())
	for _, dir := range dirs {
		if err := sumsBelow(dir, func(sum string) { delete(left, sum) }); err != nil {
			return err
		}
	}
	logs, err := os.ReadDir(k.home.ConversationsDir())
	if err != nil {
		return err
	}
	for _, e := range logs {
		if err := ctx.Err(); err != nil {
			return err
		}
		conversation, ok := maildir.LogID(e.Name())
		if !ok {
			continue
		}
		err := sumsOf(k.home.LogPath(conversation), func(sum string) {
			if left[sum] {
				delete(left, sum)
				_ = k.index.Put(indexKey(sum), []byte(conversation)) // or the next sweep finds it again
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const maxPasses = 10

// sumsBelow is sumsOf for all files in a folder and those below it. Where one of them
// vanishes, what it says may stand in a new one that was not seen, so that all are read
// again.
func sumsBelow(dir string, each func(sum string)) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for pass := 1; ; pass++ {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				err = sumsOf(path, each)
			}
			return err
		})
		if !errors.Is(err, fs.ErrNotExist) || pass == maxPasses {
			return err
		}
	}
}

func sumsOf(path string, each func(sum string)) error {
	if err := durable.CheckRegular(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return blob.Sums(f, each)
}
