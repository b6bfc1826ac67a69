package fsck

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/durable"
)

// readBlobs checks that each blob is what its name says.
func (c *homeCheck) readBlobs() {
	entries, err := os.ReadDir(c.home.BlobsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // before the first one there is none
		c.found(Error, BadBlob, c.home.BlobsDir(), "the files of messages cannot be read: %v", err)
	}
	store := blob.At(c.home.BlobsDir(), 0)
	for _, e := range entries {
		path := filepath.Join(c.home.BlobsDir(), e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."), e.Name() == blob.WantDir && e.IsDir():
			continue
		case !blob.IsSum(e.Name()):
			c.found(Warning, BadBlob, path, "the name is none that duo gives, want a SHA-256; move the file away")
			continue
		}
		f, err := store.Open(e.Name())
		if err == nil {
			_ = f.Close() // nothing was written
		} else if !errors.Is(err, fs.ErrNotExist) { // it was removed just now
			c.found(Error, BadBlob, path, "nobody gets this file: %v; copy it from a backup, or let its sender send it again", err)
		}
	}
}

// attached checks that the files are there that a line brings.
func (p *pass) attached(at entry) {
	for _, f := range at.envelope.Attachments {
		path := filepath.Join(p.home.BlobsDir(), f.SHA256)
		if p.lacking[path] || !durable.Missing(path) {
			continue
		}
		p.lacking[path] = true
		if w, err := blob.At(p.home.BlobsDir(), 0).WantOf(f.SHA256); err == nil {
			p.Findings = append(p.Findings, Finding{
				Severity: Note, Kind: NoBlob, Path: p.home.LogPath(p.id), Offset: at.offset, Seq: at.seq,
				Text: fmt.Sprintf("the file %q that this message brings has still to come from %s", f.Name, w.From()),
			})
			continue
		}
		p.Findings = append(p.Findings, Finding{
			Severity: Error, Kind: NoBlob, Path: p.home.LogPath(p.id), Offset: at.offset, Seq: at.seq,
			Text: fmt.Sprintf("the file %q that this message brings is gone; copy %q from a backup, or let its sender send it again", f.Name, path),
		})
	}
}
