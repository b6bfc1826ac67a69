package copies

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// proofs keeps what origins have signed of the logs that are copied here: the newest
// proof of each, and older ones at some distance, so that a log can be given back in parts
// that are proved each. It is a cache, written without waiting for the disk: who gets
// lines back checks them.
type proofs struct {
	home *maildir.Home

	mu   sync.Mutex
	tops map[string]*top // by conversation, of some
}

// top is the end of a file of proofs.
type top struct {
	last   kept
	offset int64 // where the last one begins
}

// kept is a proof as it is kept, a line of JSON.
type kept struct {
	proof
	Lines int   `json:"lines"` // since the proof before it
	Bytes int64 `json:"bytes"` // of these
}

const (
	proofLines = 1024      // between two proofs, at most but for one frame
	proofBytes = 256 << 10 // of these
	maxProofs  = 64 << 20  // bytes of a file
	maxTops    = 4096
)

// put keeps the newest proof of a log, which has grown by some lines since the last one.
func (p *proofs) put(peer, conversation string, newest proof, lines int, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := p.home.ProofsPath(peer, conversation)
	t, known := p.tops[conversation]
	if !known {
		var err error
		if t, err = readTop(path); err != nil {
			return err
		}
		if len(p.tops) >= maxTops {
			clear(p.tops)
		}
		p.tops[conversation] = t
	}
	one := kept{newest, lines, size}
	offset := t.offset
	switch before := t.last; {
	case before.Seq >= newest.Seq:
		return nil
	case before.Seq > 0 && before.Lines < proofLines && before.Bytes < proofBytes:
		one.Lines, one.Bytes = lines+before.Lines, size+before.Bytes
	case before.Seq > 0:
		offset += int64(len(before.text()))
	}
	if err := writeProof(path, one.text(), offset); err != nil {
		delete(p.tops, conversation)
		return err
	}
	t.last, t.offset = one, offset
	return nil
}

func (k kept) text() []byte { return append(encode(k), '\n') }

// readTop finds the last proof in a file.
func readTop(path string) (*top, error) {
	list, err := readProofs(path)
	t := &top{}
	for _, one := range list {
		if t.last.Seq > 0 {
			t.offset += int64(len(t.last.text()))
		}
		t.last = one
	}
	return t, err
}

// readProofs reads what is kept for a log, as far as it is sound; of none there is none.
func readProofs(path string) (list []kept, err error) {
	text, err := durable.ReadPlain(path, maxProofs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read proofs: %w", err)
	}
	scan := bufio.NewScanner(bytes.NewReader(text))
	for scan.Scan() {
		var one kept
		if json.Unmarshal(scan.Bytes(), &one) != nil || !bytes.Equal(encode(one), scan.Bytes()) || len(list) > 0 && one.Seq <= list[len(list)-1].Seq {
			break
		}
		list = append(list, one)
	}
	return list, nil
}

func writeProof(path string, text []byte, offset int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		return fmt.Errorf("keep proof: %w", err)
	}
	_, err = f.WriteAt(text, offset)
	if err == nil {
		err = f.Truncate(offset + int64(len(text)))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep proof: %w", err)
	}
	return nil
}

// behind are the proofs of a log behind a line and not behind another one.
func (p *proofs) behind(peer, conversation string, seq, last int64) (list []proof, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := readProofs(p.home.ProofsPath(peer, conversation))
	for _, one := range all {
		if one.Seq > seq && one.Seq <= last {
			list = append(list, one.proof)
		}
	}
	return list, err
}

// of is the proof of a log through its last line. What is kept behind that is of a log
// that was longer, and goes.
func (p *proofs) of(peer, conversation string, last int64) proof {
	list, err := p.behind(peer, conversation, 0, 1<<62)
	if err != nil || len(list) == 0 {
		return proof{}
	}
	newest := list[len(list)-1]
	if newest.Seq > last {
		_ = p.cut(peer, conversation, last) // it is a cache
	}
	for _, one := range list {
		if one.Seq == last {
			return one
		}
	}
	return proof{}
}

// cut forgets the proofs behind a line.
func (p *proofs) cut(peer, conversation string, keep int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tops, conversation)
	path := p.home.ProofsPath(peer, conversation)
	list, err := readProofs(path)
	if err != nil || len(list) == 0 {
		return err
	}
	var text []byte
	for _, one := range list {
		if one.Seq <= keep {
			text = append(text, one.text()...)
		}
	}
	return durable.ReplaceCache(path, text, 0o600)
}
