package call_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/call"
)

// TestThePage holds every pair of a state and an event against the table of
// docs/calls.md.
func TestThePage(t *testing.T) {
	page := readPage(t)
	for _, state := range states {
		for _, event := range events {
			want, ok := page[fmt.Sprintf("%s from %s", event, state)]
			if !ok {
				t.Errorf("%s from %s: the page does not say", event, state)
				continue
			}
			if event == call.Accept && state == call.Accepted || event == call.Reject && state == call.Rejected {
				want = "nothing" // the page says so below the table
			}
			if got := outcome(state, event); got != want && !(want == string(state) && got == "nothing") {
				t.Errorf("%s from %s: got %s, the page says %s", event, state, got, want)
			}
		}
	}
}

// outcome is what an event makes of a state, "nothing" or "refused".
func outcome(state call.State, event call.Event) string {
	r := placed(state)
	later := start.Add(time.Minute)
	got, err := r.Expire(later), error(nil)
	switch event {
	case call.TimeOut:
	case call.Cancel:
		got, err = r.Apply(event, atlas, "", later)
	default:
		got, err = r.Apply(event, nova, "", later)
	}
	switch {
	case errors.As(err, new(*call.Refusal)):
		return "refused"
	case got.Callees[0].State == state:
		return "nothing"
	}
	return string(got.Callees[0].State)
}

var quoted = regexp.MustCompile("`([a-z]+)`")

// readPage reads the table of events: what each makes of each state.
func readPage(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/calls.md")
	if err != nil {
		t.Fatal(err)
	}
	page := make(map[string]string)
	var columns [][][]string // the states of each
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch {
		case strings.HasPrefix(line, "| event |"):
			for _, cell := range cells[2:] {
				columns = append(columns, quoted.FindAllStringSubmatch(cell, -1))
			}
		case len(columns) > 0 && len(cells) < 2:
			return page
		case len(columns) > 0:
			for i, column := range columns {
				for _, state := range column {
					page[strings.TrimSpace(cells[0])+" from "+state[1]] = strings.Trim(cells[i+2], " `")
				}
			}
		}
	}
	return page
}
