package doctor

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	newestLogs = 50          // that are looked at
	ahead      = time.Minute // clocks of linked hosts differ a little
)

// clock tells whether messages are from the future: a timestamp is never smaller than the
// one before, so theirs would stand still until then.
func (h Host) clock() Finding {
	logs, err := h.latestLogs()
	if err != nil {
		return Failure("clock", "%v", err)
	}
	newest, where := int64(0), ""
	for _, id := range logs {
		if stamp := lastStamp(h.Home.LogPath(id)); stamp > newest {
			newest, where = stamp, id
		}
	}
	if gap := time.UnixMilli(newest).Sub(h.Now); gap > ahead {
		return Warning("clock", "conversation %s has a message from %s from now: this machine's clock is slow, or was fast", where, gap.Round(time.Second)).
			WithNext("date -u")
	}
	return Fine("clock", "no message is from the future")
}

// latestLogs are the conversations whose logs were written last.
func (h Host) latestLogs() ([]string, error) {
	ids, err := h.Home.Conversations()
	if err != nil {
		return nil, err
	}
	type written struct {
		id string
		at time.Time
	}
	list := make([]written, 0, len(ids))
	for _, id := range ids {
		info, err := os.Lstat(h.Home.LogPath(id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, written{id, info.ModTime()})
	}
	slices.SortFunc(list, func(a, b written) int { return b.at.Compare(a.at) })
	latest := make([]string, 0, newestLogs)
	for _, w := range list[:min(len(list), newestLogs)] {
		latest = append(latest, w.id)
	}
	return latest, nil
}

// lastStamp is the timestamp of a log's last line, 0 where it cannot be read: that is for
// fsck to tell.
func lastStamp(path string) int64 {
	line, ok := convlog.LastOf(path)
	if !ok {
		return 0
	}
	e, err := envelope.Decode(line.Bytes)
	if err != nil {
		return 0
	}
	return e.Timestamp
}
