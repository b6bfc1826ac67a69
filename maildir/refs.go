package maildir

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/claude-duo/duo/maildir/envelope"
)

const minRefDigits = 4

// Refs turns ids into short references and back. A reference is a letter, c for
// conversations and r for requests, and the last hex digits of the id: four, or as many
// as tell it from all others here. It may be used by several goroutines.
type Refs struct {
	letter string
	mu     sync.RWMutex
	sorted []string // the hex digits of each id, last one first
}

// NewRefs knows the ids of conversations that are given.
func NewRefs(ids []string) *Refs { return newRefs("c", ids) }

// NewRequestRefs knows the ids of requests that are given.
func NewRequestRefs(ids []string) *Refs { return newRefs("r", ids) }

func newRefs(letter string, ids []string) *Refs {
	r := &Refs{letter: letter, sorted: make([]string, len(ids))}
	for i, id := range ids {
		r.sorted[i] = reversed(id)
	}
	slices.Sort(r.sorted)
	r.sorted = slices.Compact(r.sorted)
	return r
}

// Add makes an id known.
func (r *Refs) Add(id string) {
	key := reversed(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, known := slices.BinarySearch(r.sorted, key); !known {
		r.sorted = slices.Insert(r.sorted, i, key)
	}
}

// Remove makes an id unknown.
func (r *Refs) Remove(id string) {
	key := reversed(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, known := slices.BinarySearch(r.sorted, key); known {
		r.sorted = slices.Delete(r.sorted, i, i+1)
	}
}

// Len is how many ids are known.
func (r *Refs) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.sorted)
}

// All lists the ids that are known.
func (r *Refs) All() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	ids := make([]string, len(r.sorted))
	for i, key := range r.sorted {
		ids[i] = restored(key)
	}
	return ids
}

// Short is the reference of an id.
func (r *Refs) Short(id string) string {
	key := reversed(id)
	r.mu.RLock()
	defer r.mu.RUnlock()
	i, known := slices.BinarySearch(r.sorted, key)
	digits := minRefDigits
	if i > 0 {
		digits = max(digits, shared(key, r.sorted[i-1])+1)
	}
	if known {
		i++
	}
	if i < len(r.sorted) {
		digits = max(digits, shared(key, r.sorted[i])+1)
	}
	return r.letter + flip(key[:min(digits, len(key))])
}

// Resolve returns the ids that a reference or a full id can mean.
func (r *Refs) Resolve(text string) []string {
	digits, ok := strings.CutPrefix(strings.ToLower(text), r.letter)
	prefix := flip(digits)
	if id, err := envelope.ParseID(text); err == nil {
		prefix = reversed(id)
	} else if !ok || len(digits) < minRefDigits {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	var ids []string
	i, _ := slices.BinarySearch(r.sorted, prefix)
	for ; i < len(r.sorted) && strings.HasPrefix(r.sorted[i], prefix); i++ {
		ids = append(ids, restored(r.sorted[i]))
	}
	return ids
}

// SplitRef splits "c9f3a.42" into the conversation and the seq, which is 0 where
// there is none.
func SplitRef(text string) (conversation string, seq int64, ok bool) {
	conversation, number, found := strings.Cut(text, ".")
	if !found {
		return conversation, 0, true
	}
	seq, err := strconv.ParseInt(number, 10, 64)
	return conversation, seq, err == nil && seq > 0
}

const minRef = len("c1234")

// NamesConversation reports whether a text has the form of a reference to a
// conversation, or of an id.
func NamesConversation(text string) bool {
	_, err := envelope.ParseID(text)
	return err == nil || isRef(text, "c")
}

// IsRequest reports whether a text has the form of a reference to a call.
func IsRequest(text string) bool { return isRef(text, "r") }

// NamesRequest reports whether a text can name a call: it is a reference or an id.
func NamesRequest(text string) bool {
	_, err := envelope.ParseID(text)
	return err == nil || IsRequest(text)
}

func isRef(text, letter string) bool {
	digits, ok := strings.CutPrefix(strings.ToLower(text), letter)
	return ok && len(text) >= minRef && strings.Trim(digits, "0123456789abcdef") == ""
}

// reversed is the hex digits of an id, last one first.
func reversed(id string) string { return flip(strings.ReplaceAll(id, "-", "")) }

func flip(digits string) string {
	b := []byte(digits)
	slices.Reverse(b)
	return string(b)
}

func restored(key string) string {
	hex := flip(key)
	if len(hex) != 32 {
		return hex
	}
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

// shared counts the leading bytes that two keys have in common.
func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
