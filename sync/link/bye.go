package link

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
)

// Code says why a link is ended.
type Code string

// The codes. Those from CodeFrame on mean that the other has broken a rule.
const (
	CodeShutdown Code = "shutdown" // the daemon ends
	CodeReplaced Code = "replaced" // a newer link of the same pair is there
	CodeRemoved  Code = "removed"  // the peer is trusted no more
	CodeVersion  Code = "version"  // there is no common version
	CodeFrame    Code = "frame"
	CodeNumber   Code = "number"
	CodeCredit   Code = "credit"
	CodeAck      Code = "ack"
	CodeHost     Code = "host" // the hello names another host than TLS
)

// Bye is a goodbye, said or received. It is why a link has ended, as an error.
type Bye struct {
	Code     Code
	Text     string        // for people; a received one is the peer's own text
	Wait     time.Duration // to stay away
	Received bool
}

func (b *Bye) Error() string {
	who := "this host"
	if b.Received {
		who = "the other host"
	}
	if b.Text == "" {
		return fmt.Sprintf("%s ended it (%s)", who, b.Code)
	}
	return fmt.Sprintf("%s ended it (%s): %s", who, b.Code, b.Text)
}

// Fault reports whether a rule was broken by the side that did not say the goodbye.
func (b *Bye) Fault() bool {
	switch b.Code {
	case CodeFrame, CodeNumber, CodeCredit, CodeAck, CodeHost:
		return true
	}
	return false
}

// Fault is the goodbye to a peer whose frame breaks a rule.
func Fault(format string, args ...any) *Bye { return fault(CodeFrame, format, args...) }

// fault is a goodbye to a peer that has broken a rule.
func fault(code Code, format string, args ...any) *Bye {
	return &Bye{Code: code, Text: fmt.Sprintf(format, args...)}
}

// byeLine is a goodbye on the wire.
type byeLine struct {
	Code Code   `json:"code"`
	Text string `json:"text,omitempty"`
	Wait int64  `json:"wait,omitempty"` // milliseconds
}

const (
	maxCode    = 40 // characters
	maxStay    = time.Hour
	codeUnread = Code("unreadable")
)

func (b *Bye) frame() Frame {
	header, err := json.Marshal(byeLine{Code: b.Code, Text: clip(b.Text), Wait: b.Wait.Milliseconds()})
	if err != nil {
		panic(fmt.Sprintf("encode goodbye: %v", err)) // valid texts and a number always encode
	}
	return Frame{Type: typeBye, Header: header}
}

// heardBye reads a goodbye. One that cannot be read is a goodbye all the same.
func heardBye(f Frame) *Bye {
	var l byeLine
	if err := json.Unmarshal(f.Header, &l); err != nil || l.Code == "" || len(l.Code) > maxCode {
		return &Bye{Code: codeUnread, Received: true}
	}
	wait := min(max(l.Wait, 0), maxStay.Milliseconds())
	return &Bye{Code: Code(clip(string(l.Code))), Text: clip(l.Text), Wait: time.Duration(wait) * time.Millisecond, Received: true}
}
