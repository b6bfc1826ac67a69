package offline

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/near"
)

// ReadCard reads the card of an agent. A folder without one is an agent too: the
// daemon writes its card.
func ReadCard(home *maildir.Home, name string) (card.Card, error) {
	dir := home.AgentDir(name)
	c, err := card.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		info, statErr := os.Stat(dir)
		if statErr == nil && info.IsDir() {
			return card.Card{Name: filepath.Base(dir)}, nil
		}
	}
	return c, err
}

// AgentsLike names agents that a mistyped name may mean.
func AgentsLike(home *maildir.Home, name string) []string {
	names, err := home.Agents()
	if err != nil {
		return nil // a hint only
	}
	like := near.Names(name, names)
	for i, n := range like {
		if c, err := ReadCard(home, n); err == nil {
			like[i] = c.Name
		}
	}
	return like
}
