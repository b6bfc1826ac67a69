package search

import (
	"context"
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
	from := max(0, since.UnixMilli()) / hour
	out := api.Talk{Since: from * hour, Pairs: []api.Pair{}, Behind: lag}
	rows, err := read.QueryContext(ctx, `SELECT s.address, r.address, count, last FROM
		(SELECT sender, recipient, sum(count) AS count, max(last) AS last FROM t WHERE hour >= ?1 GROUP BY sender, recipient)
		JOIN a s ON s.n = sender JOIN a r ON r.n = recipient WHERE ?2 IN ('', s.key, r.key) ORDER BY last DESC, s.address, r.address`,
		from, agent.Key())
	if err != nil {
		return out, x.failed(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		var p api.Pair
		if err := rows.Scan(&p.From, &p.To, &p.Count, &p.Last); err != nil {
			return out, x.failed(ctx, err)
		}
		if len(out.Pairs) == maxPairs {
			out.More++
			continue
		}
		out.Pairs = append(out.Pairs, p)
	}
	if err := rows.Err(); err != nil {
		return out, x.failed(ctx, err)
	}
	return out, nil
}
