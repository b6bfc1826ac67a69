package reach

import (
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

// Take leases what waits for the agent to one of its sessions, and returns what no other
// live one has, and the items that were leased for it.
func (h *Host) Take(holder session.Holder, messages []api.Message) (mine []api.Message, items []string, err error) {
	mine = []api.Message{} // as JSON tells that there is none
	if len(messages) == 0 {
		return mine, nil, nil
	}
	names := h.items(messages)
	items, err = session.OpenBook(h.Home, h.Agent).Take(holder, names)
	for i, m := range messages {
		if slices.Contains(items, names[i]) {
			mine = append(mine, m)
		}
	}
	return mine, items, err
}

// items are the names of the files in which messages wait, or would wait.
func (h *Host) items(messages []api.Message) []string {
	names := make([]string, len(messages))
	var calls map[string]string
	for i, m := range messages {
		e := m.Envelope
		if e.Seq > 0 {
			names[i] = mailbox.ItemOf(e.Conversation, e.Seq, e.Timestamp).Name
			continue
		}
		if calls == nil {
			calls = h.calls()
		}
		name, waits := calls[e.Request]
		if !waits {
			name = mailbox.SignalOf(e.Request, e.Timestamp).Name
		}
		names[i] = name
	}
	return names
}

// calls are the files in which something of a call waits.
func (h *Host) calls() map[string]string {
	signals, _ := mailbox.At(h.Home.AgentDir(h.Agent)).Signals() // what cannot be read does not wait
	names := make(map[string]string, len(signals))
	for _, s := range signals {
		names[s.Request] = s.Name
	}
	return names
}
