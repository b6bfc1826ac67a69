package api

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Cursor is a place in a list of which a part was given: behind the item with a key, or
// where that one is gone, behind so many items. The zero value is the beginning.
type Cursor struct {
	Passed int
	Key    string
}

// ParseCursor reads what String has written; an empty text is the beginning.
func ParseCursor(text string) (Cursor, error) {
	if text == "" {
		return Cursor{}, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	passed, key, ok := strings.Cut(string(data), " ")
	n, numErr := strconv.Atoi(passed)
	if err != nil || !ok || numErr != nil || n < 0 {
		return Cursor{}, Errorf(BadRequest, "cursor: %.100q is none that was given as \"next\"", text)
	}
	return Cursor{Passed: n, Key: key}, nil
}

// String is the form in which clients carry a cursor; they make nothing of it.
func (c Cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", c.Passed, c.Key))
}

// Behind returns where a list goes on behind the cursor.
func Behind[T any](list []T, c Cursor, key func(T) string) int {
	if c == (Cursor{}) {
		return 0
	}
	if i := slices.IndexFunc(list, func(item T) bool { return key(item) == c.Key }); i >= 0 {
		return i + 1
	}
	return min(c.Passed, len(list))
}

// Page returns so many items behind a cursor, how many are left, and the cursor behind
// them, empty where nothing is left.
func Page[T any](list []T, c Cursor, limit int, key func(T) string) (part []T, more int, next string) {
	from := Behind(list, c, key)
	to := from + min(limit, len(list)-from)
	part, more = list[from:to], len(list)-to
	if more > 0 && to > 0 {
		next = Cursor{Passed: to, Key: key(list[to-1])}.String()
	}
	return part, more, next
}
