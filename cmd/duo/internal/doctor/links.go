package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/spool"
)

// links tells how it stands with the hosts that this one is linked with.
func (h Host) links() []Finding {
	book, bad, err := peer.ReadBook(h.Home)
	if err != nil {
		return []Finding{Failure("links", "%v", err)}
	}
	var list []Finding
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		list = append(list, Failure("link "+frame.Line(name), "it is not trusted, as its record cannot be read: %v", bad[name]).
			WithNext("ls -la %s", frame.ShellWord(h.Home.PeerDir(name))))
	}
	for _, p := range h.Peers {
		list = append(list, h.link(p))
	}
	if h.Status == nil {
		for _, p := range book.Peers() {
			list = append(list, Fine("link "+p.Name, "not known without a daemon%s", h.spooled(p.Name)))
		}
	}
	if len(list) == 0 {
		return []Finding{Fine("links", "no other host is linked with this one")}
	}
	return list
}

// link tells how it stands with one host.
func (h Host) link(p api.Peer) Finding {
	what, more := "link "+frame.Line(p.Name), "duo peer show "+frame.ShellWord(p.Name)
	switch {
	case len(p.Resting) > 0:
		r := p.Resting[0]
		return Failure(what, "%s carried no more, %s at line %d: %s", text.Count(len(p.Resting), "conversation"), r.Conversation, r.Seq, r.Why).WithNext("%s", more)
	case p.State == string(peer.Held):
		return Failure(what, "held, somebody has to act: %s", p.Problem).WithNext("%s", more)
	case p.State != string(peer.Up):
		return Warning(what, "%s%s: %s", p.State, h.spooled(p.Name), cmp.Or(p.Problem, "no reason is known yet")).WithNext("%s", more)
	}
	return Fine(what, "up%s", h.spooled(p.Name))
}

// spooled tells what waits for a host, and since when.
func (h Host) spooled(host string) string {
	entries, err := os.ReadDir(filepath.Join(h.Home.SpoolDir(host), spool.New))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return ", what waits for it cannot be read: " + err.Error()
	}
	count, oldest := 0, h.Now
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || strings.HasPrefix(e.Name(), ".") {
			continue // it has gone meanwhile
		}
		count++
		if info.ModTime().Before(oldest) {
			oldest = info.ModTime()
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf(", %d wait for it, the oldest for %s", count, h.Now.Sub(oldest).Round(time.Second))
}
