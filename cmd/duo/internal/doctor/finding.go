// Package doctor looks at a host and says what is wrong with it, and what to do.
package doctor

import (
	"fmt"
	"slices"
)

// Level says how bad a finding is.
type Level string

// The levels of findings.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, and could be better
	Fail Level = "fail" // something does not work
)

// Finding is what one check has found.
type Finding struct {
	Level  Level  `json:"level"`
	What   string `json:"what"`           // what was looked at, in a word or two
	Detail string `json:"detail"`         // how it is
	Next   string `json:"next,omitempty"` // the command that helps, or tells more
}

// Fine is the finding of a check that has found nothing wrong.
func Fine(what, format string, args ...any) Finding { return found(OK, what, format, args) }

// Warning is the finding of something that could be better.
func Warning(what, format string, args ...any) Finding { return found(Warn, what, format, args) }

// Failure is the finding of something that does not work.
func Failure(what, format string, args ...any) Finding { return found(Fail, what, format, args) }

func found(level Level, what, format string, args []any) Finding {
	return Finding{Level: level, What: what, Detail: fmt.Sprintf(format, args...)}
}

// WithNext returns the finding with the command that helps.
func (f Finding) WithNext(format string, args ...any) Finding {
	f.Next = fmt.Sprintf(format, args...)
	return f
}

// Worse reports whether a finding is worse than another one.
func (f Finding) Worse(than Finding) bool {
	order := []Level{OK, Warn, Fail}
	return slices.Index(order, f.Level) > slices.Index(order, than.Level)
}
