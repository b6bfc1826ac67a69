package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// refresh brings what the tables have of cards and calls up to date. With only, it takes
// calls that conversations came of which that selects, and cards of agents that are in the
// tables already.
func (f *feeder) refresh(ctx context.Context, only func(conversation string) bool) (err error) {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("read cards and calls: %w", err)
	}
	defer func() {
		if err != nil {
			clear(f.agents)
			err = errors.Join(fmt.Errorf("read cards and calls: %w", err), ignoreDone(tx.Rollback()))
		}
	}()
	b := &batch{feeder: f, ctx: ctx, tx: tx}
	if err := b.cards(only != nil); err != nil {
		return err
	}
	if err := b.requests(only); err != nil {
		return err
	}
	return tx.Commit()
}

// cards takes in the cards that have changed.
func (b *batch) cards(knownOnly bool) error {
	names, err := b.home.Agents()
	if err != nil {
		return err
	}
	seen, err := b.texts("SELECT key, ifnull(looks, '') FROM a")
	if err != nil {
		return err
	}
	for _, name := range names {
		key := b.home.Address(name).Key()
		was, known := seen[key]
		is := looks(filepath.Join(b.home.AgentDir(name), card.File))
		if known && was == is || knownOnly && !known {
			continue
		}
		c, err := card.Read(b.home.AgentDir(name))
		if err != nil { // a folder without a card, or with a broken one, is an agent too
			c = card.Card{Name: name}
		}
		n, err := b.agent(b.home.Address(c.Name))
		if err != nil {
			return err
		}
		capabilities, err := json.Marshal(append([]string{}, c.Capabilities...))
		if err != nil {
			return err
		}
		err = b.exec(`UPDATE a SET address = ?, looks = ?, id = ?, capabilities = ?, description = ?, platform = ?, accepts = ?, unregistered = ? WHERE n = ?`,
			b.home.Address(c.Name).String(), is, orNil(c.ID), string(capabilities), orNil(c.Description), orNil(c.Platform), orNil(c.Accepts), c.Unregistered, n)
		if err != nil {
			return err
		}
	}
	return nil
}

// texts reads pairs of texts.
func (b *batch) texts(query string) (map[string]string, error) {
	rows, err := b.tx.QueryContext(b.ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := make(map[string]string)
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		list[key] = value
	}
	return list, rows.Err()
}

const maxRecord = 4 * envelope.MaxLine

// requests takes in the records of calls that have changed, and drops those that are gone.
func (b *batch) requests(only func(conversation string) bool) error {
	seen, err := b.texts("SELECT id, looks FROM r GROUP BY id")
	if err != nil {
		return err
	}
	for _, folder := range b.recordFolders() {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			id, ok := strings.CutSuffix(e.Name(), ".json")
			if _, bad := envelope.ParseID(id); !ok || bad != nil {
				continue
			}
			was := seen[id]
			delete(seen, id)
			if err := b.record(filepath.Join(folder, e.Name()), id, was, only); err != nil {
				return err
			}
		}
	}
	for id := range seen {
		if err := b.exec("DELETE FROM r WHERE id = ?", id); err != nil {
			return err
		}
	}
	return nil
}

// recordFolders are where records of calls are: of this host and of others.
func (b *batch) recordFolders() []string {
	folders := []string{b.home.OpenRequestsDir(), b.home.DoneRequestsDir()}
	entries, _ := os.ReadDir(b.home.FarRequestsDir()) // there need not be any
	for _, e := range entries {
		if envelope.CheckHost(e.Name()) == nil {
			at := filepath.Join(b.home.FarRequestsDir(), e.Name())
			folders = append(folders, filepath.Join(at, "open"), filepath.Join(at, "done"))
		}
	}
	return folders
}

// record takes in the record of a call that looked as was. One that cannot be read is left
// out: it is being moved, or the daemon has told of it.
func (b *batch) record(path, id, was string, only func(conversation string) bool) error {
	is := looks(path)
	if is == "" || is == was {
		return nil
	}
	data, err := durable.ReadPlain(path, maxRecord)
	if err != nil {
		return nil
	}
	var r call.Request
	if json.Unmarshal(data, &r) != nil || r.ID != id || only != nil && !only(r.Conversation) {
		return nil
	}
	if err := b.exec("DELETE FROM r WHERE id = ?", id); err != nil {
		return err
	}
	for i, c := range r.Callees {
		err := b.exec("INSERT INTO r VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", id, i, is, r.From.String(), c.Agent.String(),
			string(c.State), c.Reason, c.At, r.Topic, r.Content, r.CreatedAt, r.Rings(), r.Conversation, r.Over)
		if err != nil {
			return err
		}
	}
	return nil
}
