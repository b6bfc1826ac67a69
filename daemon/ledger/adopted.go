package ledger

import "slices"

// Adopted notes that the lines which somebody has appended with the shell to a copy of a
// log are dealt with through the one at an offset. In a log that is ordered here, lines
// say that themselves.
func (l *Ledger) Adopted(id string, offset int64) error {
	return l.with(id, func(c *conversation) error {
		c.turn.Lock()
		defer c.turn.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.work.Adopted = max(c.work.Adopted, offset+1)
		c.state.Adopted = c.work.Adopted
		c.raws = slices.DeleteFunc(c.raws, func(r Raw) bool { return *r.Draft.Raw < c.work.Adopted })
		c.saved = -1 // the log has not grown, but there is something to keep
		return nil
	})
}
