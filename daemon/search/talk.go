package search

import (
	"context"
	"database/sql"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

const maxPairs = 1000

// Talk tells who has written to whom since a time, in whole hours, the latest first: what
// concerns an agent, or for the zero address everything. Errors are *api.Error.
func (x *Index) Talk(ctx context.Context, since time.Time, agent envelope.Address) (api.Talk, error) {
	lag, read, err := x.ask(ctx)
	if err != nil {
		return api.Talk{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, x.within)
	defer cancel()
	out := api.Talk{Since: max(0, since.UnixMilli()) / hour * hour, Pairs: []api.Pair{}, Behind: lag}
	if err := pairs(ctx, read, agent, &out); err != nil {
		slow := api.Errorf(api.TooSlow, "to tell who talks to whom took longer than %s: ask for a later since", x.within)
		return api.Talk{}, x.failed(ctx, err, slow)
	}
	return out, nil
}

// pairs adds to an answer who has written to whom.
func pairs(ctx context.Context, db *sql.DB, agent envelope.Address, out *api.Talk) error {
	rows, err := db.QueryContext(ctx, `SELECT s.address, r.address, count, last FROM
		(SELECT sender, recipient, sum(count) AS count, max(last) AS last FROM t WHERE hour >= ?1 GROUP BY sender, recipient)
		JOIN a s ON s.n = sender JOIN a r ON r.n = recipient WHERE ?2 IN ('', s.key, r.key) ORDER BY last DESC, s.address, r.address`,
		out.Since/hour, agent.Key())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var p api.Pair
		if err := rows.Scan(&p.From, &p.To, &p.Count, &p.Last); err != nil {
			return err
		}
		if len(out.Pairs) == maxPairs {
			out.More++
			continue
		}
		out.Pairs = append(out.Pairs, p)
	}
	return rows.Err()
}
