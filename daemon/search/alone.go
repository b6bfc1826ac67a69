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
	if err := x.catchUp(ctx); err != nil {
		return rows, api.Errorf(api.Busy, "the index cannot be made: %w", err).WithNext("duo doctor")
	}
	defer x.close()
	return x.SQL(ctx, ask)
}

// catchUp reads everything that is new. An index that is found broken is made again, once.
func (x *Index) catchUp(ctx context.Context) error {
	err := x.readAll(ctx)
	if err != nil && x.broken(err) {
		x.drop(true)
		err = x.readAll(ctx)
	}
	if err != nil {
		x.drop(x.broken(err))
	}
	return err
}

func (x *Index) readAll(ctx context.Context) error {
	err := x.begin(ctx)
	for more := true; more && err == nil; {
		if more, err = x.step(ctx); err == nil {
			err = ctx.Err()
		}
	}
	return err
}
