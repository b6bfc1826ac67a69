package daemon

import (
	"log/slog"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/peer"
)

// Looks is what sweeps remember.
type Looks = looks

// The methods of Looks.
var (
	NewLooks = newLooks
	Begin    = (*looks).begin
	Changed  = (*looks).changed
	Known    = (*looks).known
	IsTurnOf = (*looks).isTurnOf
	Forget   = (*looks).forget
)

// OpenServices opens the parts of a home without running them, and returns what rides on
// its links.
func OpenServices(home *maildir.Home) (services []peer.Service, end func(), err error) {
	h := &host{home: home, logger: slog.New(slog.DiscardHandler), started: time.Now(), stop: func() {}}
	if err := h.open(Options{}); err != nil {
		return nil, nil, err
	}
	return h.services(), h.close, nil
}
