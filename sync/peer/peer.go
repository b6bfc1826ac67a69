// Package peer is the hosts that this host is linked with: who they are and what they
// may do, which of them is dialled when, and the one link that there is with each.
//
//	Book      who is trusted; peers/<host>/peer.json
//	Manager   dials, takes links and pairings in, says how it stands
//	Session   one link that is up: frames go to services and come from them
//
// What rides on a link is for services; this package knows nothing of it. docs/link.md
// states the protocol.
package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/claude-duo/duo/sync/identity"
)

// Peer is another host that this one trusts.
type Peer struct {
	ID      string
	Name    string        // what it calls itself, and addresses have
	Keys    identity.Keys // those that are pinned
	Address string        // host:port where it is dialled; empty where it only dials
	Via     string        // name of the peer that has introduced it and carries for it
	Relay   bool          // may introduce others, and carries for this host
	Carry   bool          // this host carries for it, and introduces it to others
}

// record is peer.json.
type record struct {
	Version int               `json:"version"`
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Keys    []json.RawMessage `json:"keys"`
	Address string            `json:"address,omitempty"`
	Via     string            `json:"via,omitempty"`
	Relay   bool              `json:"relay,omitempty"`
	Carry   bool              `json:"carry,omitempty"`
}

const recordVersion = 1

func (p Peer) record() record {
	r := record{Version: recordVersion, ID: p.ID, Name: p.Name, Address: p.Address, Via: p.Via, Relay: p.Relay, Carry: p.Carry}
	for line := range strings.Lines(string(p.Keys.Text())) {
		r.Keys = append(r.Keys, json.RawMessage(line))
	}
	return r
}

func decode(data []byte) (Peer, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return Peer{}, err
	}
	if r.Version != recordVersion {
		return Peer{}, fmt.Errorf("version %d, this program knows version %d", r.Version, recordVersion)
	}
	var text bytes.Buffer
	for _, line := range r.Keys {
		if err := json.Compact(&text, line); err != nil {
			return Peer{}, err
		}
		text.WriteByte('\n')
	}
	keys, err := identity.ParseKeys(text.Bytes())
	if err != nil {
		return Peer{}, err
	}
	if keys.ID() != r.ID {
		return Peer{}, fmt.Errorf("has the id %q, but its keys are those of %q", r.ID, keys.ID())
	}
	return Peer{ID: r.ID, Name: r.Name, Keys: keys, Address: r.Address, Via: r.Via, Relay: r.Relay, Carry: r.Carry}, nil
}
