package ledger

// OpenLogs lists the conversations whose logs are open, the most recently used first.
func (l *Ledger) OpenLogs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, l.recent.Len())
	for e := l.recent.Front(); e != nil; e = e.Next() {
		ids = append(ids, e.Value.(*conversation).id)
	}
	return ids
}

// Snapshot is what the index keeps of a log.
type Snapshot = snapshot

// DecodeSnapshot reads what Encode has written.
var DecodeSnapshot = decodeSnapshot

// Encode writes a snapshot.
func (s snapshot) Encode() []byte { return s.encode() }
