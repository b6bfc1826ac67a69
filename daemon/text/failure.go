package text

import (
	"fmt"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
)

// Error writes an error: what it is, names that may have been meant, and what to run next.
func (w *Writer) Error(e *api.Error) {
	kind := "error"
	if e.Code == api.Pending {
		kind = "pending"
	}
	lines := strings.Split(strings.TrimSpace(e.Message), "\n")
	lines[0] = fmt.Sprintf("%s: %s", kind, lines[0])
	if e.Code != api.Pending {
		lines[0] += fmt.Sprintf(" (%s)", e.Code)
	}
	for _, line := range lines {
		w.Say("%s", frame.Line(line))
	}
	if len(e.Near) > 0 {
		w.Say("%s", frame.Line("did you mean: "+strings.Join(e.Near, ", ")))
	}
	w.Next("%s", e.Next)
}
