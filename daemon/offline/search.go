package offline

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Search reads all logs for what is asked. The answer has no cursor.
func (f *Files) Search(ctx context.Context, s api.Search) (api.Hits, error) {
	q, err := search.Parse(s, time.Now())
	if err != nil {
		return api.Hits{}, err
	}
	for _, refs := range [][]string{q.In, q.NotIn} {
		for i, ref := range refs {
			if refs[i], err = f.Resolve(ref); err != nil {
				return api.Hits{}, err
			}
		}
	}
	return search.Scan(ctx, f.home, q, envelope.Address{}, s.Limit, f.refs.Short)
}

// SQL answers a question to the tables of the index, after it has read what is new; it
// tells how much that was. While a daemon keeps the index, it is asked as it is.
func (f *Files) SQL(ctx context.Context, ask api.SQL) (api.Rows, error) {
	return search.SelectAlone(ctx, f.home, ask)
}
