package export

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"time"

	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// version of the form that a stream has.
const version = 1

// The kinds of records.
const (
	recordExport       = "export"
	recordAgent        = "agent"
	recordConversation = "conversation"
	recordFile         = "file"
	recordEnd          = "end"
)

// head is the first record.
type head struct {
	Duo     string `json:"duo"`
	Version int    `json:"version"`
	Host    string `json:"host"`
	HostID  string `json:"hostId"`
	Time    int64  `json:"time"` // Unix milliseconds
}

type agentRecord struct {
	Duo          string   `json:"duo"`
	Address      string   `json:"address"`
	ID           string   `json:"id,omitempty"`
	Name         string   `json:"name"`
	Capabilities []string `json:"capabilities,omitempty"`
	Description  string   `json:"description,omitempty"`
	Platform     string   `json:"platform,omitempty"`
}

// talkRecord stands before the lines of a log.
type talkRecord struct {
	Duo     string `json:"duo"`
	ID      string `json:"id"`
	Origin  string `json:"origin,omitempty"`
	Topic   string `json:"topic,omitempty"`
	Lines   int64  `json:"lines"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
	Damaged string `json:"damaged,omitempty"`
}

// fileRecord stands before the pieces of a file.
type fileRecord struct {
	Duo     string `json:"duo"`
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"`
	Missing string `json:"missing,omitempty"`
}

// piece is a part of a file.
type piece struct {
	Data string `json:"data"` // standard base64
}

// pieceSize is how many bytes of a file stand on a line, but on the last one.
const pieceSize = 48 << 10

type endRecord struct {
	Duo           string `json:"duo"`
	Conversations int    `json:"conversations"`
	Lines         int64  `json:"lines"`
	Files         int    `json:"files"`
	SHA256        string `json:"sha256"` // of all before this record
}

const bufferSize = 256 << 10

// stream writes the format jsonl.
type stream struct {
	source *source
	out    *bufio.Writer
	sum    hash.Hash // of what was written
	w      io.Writer // to both
	began  bool
	agents map[string]bool // whose card was written
	files  map[string]bool // that were written
	totals endRecord
}

func newStream(s *source, w io.Writer) *stream {
	st := &stream{source: s, out: bufio.NewWriterSize(w, bufferSize), sum: sha256.New()}
	st.w = io.MultiWriter(st.out, st.sum)
	st.agents, st.files = make(map[string]bool), make(map[string]bool)
	return st
}

func (st *stream) begin() error {
	if st.began {
		return nil
	}
	st.began = true
	host := st.source.home.Host
	return st.record(head{recordExport, version, host.Name, host.ID, time.Now().UnixMilli()})
}

func (st *stream) talk(t *talk) error {
	if err := st.begin(); err != nil {
		return err
	}
	for _, m := range t.state.Members {
		if err := st.agent(m.Address); err != nil {
			return err
		}
	}
	r := talkRecord{Duo: recordConversation, ID: t.id, Origin: t.state.Origin, Topic: t.state.Topic, Lines: t.lines, Bytes: t.bytes, SHA256: t.sum}
	if t.damage != nil {
		r.Damaged = t.damage.Error()
	}
	if err := st.record(r); err != nil {
		return err
	}
	err := t.raw(func(line convlog.Line) error { return st.line(line.Bytes) })
	if err != nil {
		return err
	}
	st.totals.Conversations++
	st.totals.Lines += t.lines
	for _, a := range t.files {
		if err := st.file(a); err != nil {
			return err
		}
	}
	return nil
}

func (st *stream) line(text []byte) error {
	_, err := st.w.Write(text)
	if err == nil {
		_, err = st.w.Write([]byte{'\n'})
	}
	return err
}

func (st *stream) record(r any) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return st.line(text)
}

// agent writes what the card of an agent of this host says, once.
func (st *stream) agent(a envelope.Address) error {
	home := st.source.home
	if a.Host != home.Host.Name || st.agents[a.String()] {
		return nil
	}
	st.agents[a.String()] = true
	c, err := card.Read(home.AgentDir(a.Name))
	if err != nil { // there is none, or none that can be read: the address is in the lines
		return nil
	}
	return st.record(agentRecord{recordAgent, a.String(), c.ID, c.Name, c.Capabilities, c.Description, c.Platform})
}

func (st *stream) file(a envelope.Attachment) error {
	if st.files[a.SHA256] {
		return nil
	}
	st.files[a.SHA256] = true
	f, why, err := st.source.file(a)
	if err != nil {
		return err
	}
	if f == nil {
		return st.record(fileRecord{recordFile, a.SHA256, a.Size, why})
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := st.record(fileRecord{Duo: recordFile, SHA256: a.SHA256, Size: info.Size()}); err != nil {
		return err
	}
	st.totals.Files++
	st.source.result.Files++
	return st.pieces(io.NewSectionReader(f, 0, info.Size()))
}

func (st *stream) pieces(r io.Reader) error {
	buf := make([]byte, pieceSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := st.record(piece{base64.StdEncoding.EncodeToString(buf[:n])}); err != nil {
				return err
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}

func (st *stream) end() error {
	if err := st.begin(); err != nil {
		return err
	}
	st.totals.Duo, st.totals.SHA256 = recordEnd, hex.EncodeToString(st.sum.Sum(nil))
	if err := st.record(st.totals); err != nil {
		return err
	}
	return st.out.Flush()
}
