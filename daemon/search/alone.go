package search

import (
	"context"
	"errors"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
)

// SelectAlone is Index.SQL where no daemon can be reached. Where none runs, it brings the
// index of the home up to date first; meanwhile no daemon can start. Where one does, it
// asks the index as it is.
func SelectAlone(ctx context.Context, home *maildir.Home, ask api.SQL) (rows api.Rows, err error) {
	release, err := home.LockDaemon()
	if errors.Is(err, maildir.ErrRunning) {
		if looks(home.SearchPath()) == "" {
			return rows, api.Errorf(api.Busy, "there is no index yet, and its daemon cannot be reached").WithNext("duo status")
		}
		return Select(ctx, home.SearchPath(), ask)
	}
	if err != nil {
		return rows, err
	}
	defer func() { err = errors.Join(err, release()) }()
	x := New(Parts{Home: home})
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = x.Run(running) // which never fails
	}()
	defer func() { stop(); <-ended }()
	x.Settle(ctx)
	return x.SQL(ctx, ask)
}
