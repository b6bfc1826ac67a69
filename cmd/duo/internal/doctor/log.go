package doctor

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
)

const (
	logEnd   = 256 << 10      // bytes of the daemon's log that are read
	recently = 24 * time.Hour // what is older is over
	maxEntry = 300            // characters of an entry
)

// log tells of errors in the daemon's log: those need a person.
func (h Host) log() Finding {
	data, err := tail(h.Home.DaemonLogPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Fine("daemon log", "none")
	case err != nil:
		return Failure("daemon log", "%v", err)
	}
	count, last := errorsIn(data, h.Now.Add(-recently))
	if count == 0 {
		return Fine("daemon log", "no error in the last day")
	}
	return Warning("daemon log", "%s in the last day, the last one: %s", text.Count(count, "error"), frame.Cut(last, maxEntry)).
		WithNext("grep level=ERROR %s", frame.ShellWord(h.Home.DaemonLogPath()))
}

func tail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logEnd {
		if _, err := f.Seek(-logEnd, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, logEnd))
}

var entry = regexp.MustCompile(`^time=(\S+) level=ERROR `)

// errorsIn counts the errors of a log since a time, and returns the last one.
func errorsIn(log []byte, since time.Time) (count int, last string) {
	for line := range bytes.Lines(log) {
		found := entry.FindSubmatch(line)
		if found == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, string(found[1]))
		if err != nil || at.Before(since) {
			continue
		}
		count, last = count+1, string(bytes.TrimSpace(line))
	}
	return count, last
}
