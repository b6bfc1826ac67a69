package api

import (
	"fmt"
	"net/http"
	"time"
)

// The exit codes of the command line.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitIdentity    = 4
	ExitConflict    = 5
	ExitUnavailable = 6
	ExitLimited     = 7
	ExitPending     = 8
	ExitDeclined    = 9
	ExitInterrupted = 130
)

// Code says what kind of error it is. Codes are stable; texts are not.
type Code string

// The codes of errors.
const (
	Internal             Code = "internal"
	UnsafeHome           Code = "unsafe_home" // others could read or change it
	BadConfig            Code = "bad_config"
	BadRequest           Code = "bad_request"
	BadReference         Code = "bad_reference"
	AmbiguousReference   Code = "ambiguous_reference"
	AgentNotFound        Code = "agent_not_found"
	ConversationNotFound Code = "conversation_not_found"
	MessageNotFound      Code = "message_not_found"
	AttachmentNotFound   Code = "attachment_not_found"
	HostNotFound         Code = "host_not_found"
	HostUnreachable      Code = "host_unreachable" // there is no link with it now
	PairingRefused       Code = "pairing_refused"
	BadCode              Code = "bad_code" // not a pairing code, or one that is expired, used or wrong
	RouteNotFound        Code = "route_not_found"
	IdentityRequired     Code = "identity_required"
	IdentityUnknown      Code = "identity_unknown"
	NotParticipant       Code = "not_participant"
	NotAllowed           Code = "not_allowed"
	AlreadyParticipant   Code = "already_participant"
	ConversationClosed   Code = "conversation_closed"
	TurnLimitReached     Code = "turn_limit_reached"
	NobodyElse           Code = "nobody_else"
	KeyReused            Code = "key_reused"
	FileExists           Code = "file_exists" // of duo get and duo export
	LogDiffers           Code = "log_differs" // of duo import
	Damaged              Code = "damaged"
	CheckFailed          Code = "check_failed" // of duo doctor
	TooLarge             Code = "too_large"
	TooMany              Code = "too_many"
	TooManyHops          Code = "too_many_hops" // automatic messages in a row
	RateLimited          Code = "rate_limited"  // Retry says when to try again
	NotAccepted          Code = "not_accepted"  // the other one does not want it
	Muted                Code = "muted"         // the operator lets the agent say nothing
	Blocked              Code = "blocked"       // the operator lets the agent take part in nothing
	RequestNotFound      Code = "request_not_found"
	RequestAnswered      Code = "request_answered" // or withdrawn, before
	CallOver             Code = "call_over"
	NobodyAvailable      Code = "nobody_available"
	TokenNotFound        Code = "token_not_found"
	Unauthorized         Code = "unauthorized" // no token, or a wrong one
	LoginUsed            Code = "login_used"   // somebody has signed in with the code before
	ReadOnly             Code = "read_only"    // the token is an observer's
	WrongHost            Code = "wrong_host"   // the Host or Origin header is not ours
	StorageFailed        Code = "storage_failed"
	Busy                 Code = "busy"
	DaemonUnreachable    Code = "daemon_unreachable"
	Stopping             Code = "stopping"
	AlreadyRunning       Code = "already_running"
	AlreadyInstalled     Code = "already_installed" // in a client, in another way
	OnItsWay             Code = "on_its_way"        // a file that another host has still to send
	Pending              Code = "pending"           // a wait ended with nothing; not an error
	TooSlow              Code = "too_slow"          // the request did not come to its end
	Declined             Code = "declined"          // who was called does not talk now
	NotSent              Code = "not_sent"          // a drop was refused: outbox/failed has it
	QueueFull            Code = "queue_full"        // too much waits for another host
)

type meaning struct {
	exit      int
	status    int
	retryable bool
}

// meanings is the one table from codes to exit codes and HTTP statuses.
var meanings = map[Code]meaning{
	Internal:             {ExitError, http.StatusInternalServerError, false},
	UnsafeHome:           {ExitError, http.StatusForbidden, false},
	BadConfig:            {ExitError, http.StatusUnprocessableEntity, false},
	BadRequest:           {ExitUsage, http.StatusUnprocessableEntity, false},
	BadReference:         {ExitUsage, http.StatusUnprocessableEntity, false},
	AmbiguousReference:   {ExitUsage, http.StatusUnprocessableEntity, false},
	AgentNotFound:        {ExitNotFound, http.StatusNotFound, false},
	ConversationNotFound: {ExitNotFound, http.StatusNotFound, false},
	MessageNotFound:      {ExitNotFound, http.StatusNotFound, false},
	AttachmentNotFound:   {ExitNotFound, http.StatusNotFound, false},
	HostNotFound:         {ExitNotFound, http.StatusNotFound, false},
	HostUnreachable:      {ExitUnavailable, http.StatusServiceUnavailable, true},
	PairingRefused:       {ExitConflict, http.StatusConflict, false},
	BadCode:              {ExitUsage, http.StatusUnprocessableEntity, false},
	RouteNotFound:        {ExitNotFound, http.StatusNotFound, false},
	IdentityRequired:     {ExitIdentity, http.StatusUnauthorized, false},
	IdentityUnknown:      {ExitIdentity, http.StatusUnauthorized, false},
	NotParticipant:       {ExitIdentity, http.StatusForbidden, false},
	NotAllowed:           {ExitIdentity, http.StatusForbidden, false},
	AlreadyParticipant:   {ExitConflict, http.StatusConflict, false},
	ConversationClosed:   {ExitConflict, http.StatusConflict, false},
	TurnLimitReached:     {ExitConflict, http.StatusConflict, false},
	NobodyElse:           {ExitConflict, http.StatusConflict, false},
	KeyReused:            {ExitConflict, http.StatusConflict, false},
	FileExists:           {ExitConflict, http.StatusConflict, false},
	LogDiffers:           {ExitConflict, http.StatusConflict, false},
	Damaged:              {ExitError, http.StatusConflict, false},
	CheckFailed:          {ExitError, http.StatusConflict, false},
	TooLarge:             {ExitLimited, http.StatusRequestEntityTooLarge, false},
	TooMany:              {ExitLimited, http.StatusUnprocessableEntity, false},
	TooManyHops:          {ExitLimited, http.StatusUnprocessableEntity, false},
	RateLimited:          {ExitLimited, http.StatusTooManyRequests, true},
	NotAccepted:          {ExitIdentity, http.StatusForbidden, false},
	Muted:                {ExitIdentity, http.StatusForbidden, false},
	Blocked:              {ExitIdentity, http.StatusForbidden, false},
	RequestNotFound:      {ExitNotFound, http.StatusNotFound, false},
	RequestAnswered:      {ExitConflict, http.StatusConflict, false},
	NobodyAvailable:      {ExitUnavailable, http.StatusServiceUnavailable, true},
	CallOver:             {ExitConflict, http.StatusConflict, false},
	TokenNotFound:        {ExitNotFound, http.StatusNotFound, false},
	Unauthorized:         {ExitIdentity, http.StatusUnauthorized, false},
	LoginUsed:            {ExitIdentity, http.StatusUnauthorized, false},
	ReadOnly:             {ExitIdentity, http.StatusForbidden, false},
	WrongHost:            {ExitIdentity, http.StatusForbidden, false},
	StorageFailed:        {ExitUnavailable, http.StatusInsufficientStorage, true},
	Busy:                 {ExitUnavailable, http.StatusServiceUnavailable, true},
	DaemonUnreachable:    {ExitUnavailable, http.StatusServiceUnavailable, true},
	Stopping:             {ExitUnavailable, http.StatusServiceUnavailable, true},
	AlreadyRunning:       {ExitConflict, http.StatusConflict, false},
	AlreadyInstalled:     {ExitConflict, http.StatusConflict, false},
	OnItsWay:             {ExitUnavailable, http.StatusServiceUnavailable, true},
	Pending:              {ExitPending, http.StatusRequestTimeout, true},
	TooSlow:              {ExitUnavailable, http.StatusRequestTimeout, true},
	Declined:             {ExitDeclined, http.StatusConflict, false},
	NotSent:              {ExitError, http.StatusConflict, false},
	QueueFull:            {ExitLimited, http.StatusServiceUnavailable, true},
}

// Error is an error that crosses processes: a code to decide on, a text to read,
// and the command to run next. Over HTTP it is a problem of RFC 9457.
type Error struct {
	Code    Code
	Message string
	Next    string        // a command, empty for none
	Near    []string      // valid names like the one that is not
	Retry   time.Duration // when to try again, 0 where that is not known
	Cause   error         // stays in the process
}

// Errorf makes an error. A %w in the format becomes the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Cause: err}
}

// WithNext returns the error with the command to run next.
func (e *Error) WithNext(format string, args ...any) *Error {
	e.Next = fmt.Sprintf(format, args...)
	return e
}

// WithNear returns the error with valid names like the one that is not.
func (e *Error) WithNear(near []string) *Error {
	e.Near = near
	return e
}

// WithRetry returns the error with the time after which to try again.
func (e *Error) WithRetry(after time.Duration) *Error {
	e.Retry = after
	return e
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

// Exit is the exit code of a command that ends with this error.
func (e *Error) Exit() int {
	if m, ok := meanings[e.Code]; ok {
		return m.exit
	}
	return ExitError
}

// Status is the HTTP status of the error.
func (e *Error) Status() int {
	if m, ok := meanings[e.Code]; ok {
		return m.status
	}
	return http.StatusInternalServerError
}

// Retryable reports whether trying the same again later can help.
func (e *Error) Retryable() bool { return meanings[e.Code].retryable }

// Problem is an Error as HTTP carries it: RFC 9457 with fields of duo's.
type Problem struct {
	Type      string   `json:"type"`
	Title     string   `json:"title"`
	Status    int      `json:"status"`
	Detail    string   `json:"detail"`
	Code      Code     `json:"code"`
	Exit      int      `json:"exit"`
	Retryable bool     `json:"retryable"`
	Next      string   `json:"next,omitempty"`
	Near      []string `json:"near,omitempty"`
}

// Problem returns the error as HTTP carries it.
func (e *Error) Problem() Problem {
	return Problem{
		Type: "urn:duo:problem:" + string(e.Code), Title: http.StatusText(e.Status()), Status: e.Status(),
		Detail: e.Message, Code: e.Code, Exit: e.Exit(), Retryable: e.Retryable(), Next: e.Next, Near: e.Near,
	}
}

// Error returns the error that the problem carries.
func (p Problem) Error() *Error {
	return &Error{Code: p.Code, Message: p.Detail, Next: p.Next, Near: p.Near}
}
