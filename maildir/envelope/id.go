package envelope

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// NewID returns a new message id, a UUID version 7.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// NamedID returns the UUID version 8 of what the parts name: the same parts give
// the same id. It identifies drops and adopted lines, so that a retry after a
// crash is recognised.
func NamedID(parts ...string) string { return hashID("duo/name/1", parts) }

// ConversationID returns the id of the conversation that begins with the line
// createID on the host with the id origin. It is a hash of both, so that no other
// host can claim it.
func ConversationID(origin, createID string) string {
	return hashID("duo/conversation/1", []string{origin, createID})
}

func hashID(domain string, parts []string) string {
	h := sha256.New()
	for _, p := range append([]string{domain}, parts...) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write([]byte(p))
	}
	var u uuid.UUID
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// ParseID reads a UUID in its usual form of 36 characters, and returns it in lower case.
func ParseID(s string) (string, error) {
	u, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return "", fmt.Errorf("want a UUID of 36 characters, got %q", clip(s))
	}
	return u.String(), nil
}

// MadeAt returns when a version 7 id was made, and false for every other id.
func MadeAt(id string) (time.Time, bool) {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}, false
	}
	var ms [8]byte
	copy(ms[2:], u[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))), true
}
