package copies

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/claude-duo/duo/daemon/ledger"
)

// chain is what the lines of a log have come to: the hash of all through one. So who
// signs the newest has signed all of them.
type chain struct {
	seq int64
	sum [sha256.Size]byte
}

func newChain(conversation string) chain {
	return chain{sum: sha256.Sum256([]byte("duo/chain/1\n" + conversation + "\n"))}
}

// next is the chain with one line more.
func (c chain) next(line []byte) chain {
	h := sha256.New()
	h.Write(c.sum[:])
	h.Write(line)
	c.seq++
	h.Sum(c.sum[:0])
	return c
}

func (c chain) hex() string { return hex.EncodeToString(c.sum[:]) }

// message is what the origin signs of a log.
func (c chain) message(conversation string) []byte {
	return fmt.Appendf(nil, "duo/lines/1\n%s\n%d\n%s\n", conversation, c.seq, c.hex())
}

// proof is a chain that the origin has signed, as it crosses and as it is kept.
type proof struct {
	Seq   int64  `json:"seq"`
	Chain string `json:"chain,omitempty"`
	Sig   string `json:"sig,omitempty"`
}

func (p proof) is(c chain) bool { return p.Seq == c.seq && p.Chain == c.hex() }

// sign makes the proof of a chain; it is empty where this host signs nothing.
func (s *Service) sign(conversation string, c chain) (p proof) {
	if s.Sign == nil {
		return proof{}
	}
	sig := s.Sign(c.message(conversation))
	return proof{Seq: c.seq, Chain: c.hex(), Sig: base64.StdEncoding.EncodeToString(sig)}
}

// signed reports whether a host has signed a proof, whatever log it is of.
func (s *Service) signed(host, conversation string, p proof) bool {
	c := chain{seq: p.Seq}
	sum, err := hex.DecodeString(p.Chain)
	if err != nil || len(sum) != len(c.sum) || p.Seq < 1 || s.Signed == nil {
		return false
	}
	copy(c.sum[:], sum)
	return s.Signed(host, c.message(conversation), p.Sig)
}

const (
	chainEvery = 1024 // lines between the marks that are kept
	maxMarked  = 4096 // conversations with marks
)

// marks remembers of logs what some of their lines have come to. It may be lost.
type marks struct {
	mu   sync.Mutex
	byID map[string][]mark
}

// mark is the chain at a line, and the line, by which it is recognised.
type mark struct {
	chain
	line [sha256.Size]byte
}

// before is the last mark that is not behind a line.
func (m *marks) before(conversation string, seq int64) (mark, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.byID[conversation]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].seq <= seq {
			return list[i], true
		}
	}
	return mark{}, false
}

// put keeps a mark, in place of the last one where that is near the one before it.
func (m *marks) put(conversation string, c chain, line []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.byID[conversation]
	n := len(list)
	if n == 0 && len(m.byID) >= maxMarked {
		clear(m.byID)
	}
	if n > 0 && list[n-1].seq >= c.seq {
		return
	}
	if n > 1 && c.seq-list[n-2].seq < chainEvery {
		list = list[:n-1]
	}
	m.byID[conversation] = append(list, mark{c, sha256.Sum256(line)})
}

// cut forgets what is behind a line.
func (m *marks) cut(conversation string, keep int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if list, ok := m.byID[conversation]; ok {
		m.byID[conversation] = slices.DeleteFunc(list, func(one mark) bool { return one.seq > keep })
	}
}

// chainAt is what a log has come to with a line.
func (s *Service) chainAt(conversation string, v ledger.View, seq int64) (chain, error) {
	c := newChain(conversation)
	for {
		m, ok := s.marks.before(conversation, seq)
		if !ok {
			break
		}
		line, err := v.At(m.seq)
		if err == nil && sha256.Sum256(line.Bytes) == m.line {
			c = m.chain
			break
		}
		s.marks.cut(conversation, m.seq-1) // of another log than this
	}
	var last []byte
	for line, err := range v.Since(c.seq) {
		if err != nil {
			return chain{}, err
		}
		if line.Envelope.Seq > seq {
			break
		}
		c, last = c.next(line.Bytes), line.Bytes
		if c.seq%chainEvery == 0 {
			s.marks.put(conversation, c, last)
		}
	}
	if c.seq != seq {
		return chain{}, fmt.Errorf("log of %q has no line %d", conversation, seq)
	}
	if last != nil {
		s.marks.put(conversation, c, last)
	}
	return c, nil
}
