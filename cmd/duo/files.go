package main

import (
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/maildir"
)

func (a *app) files() (*offline.Files, error) {
	home, err := a.home()
	if err != nil {
		return nil, err
	}
	return a.filesOf(home)
}

func (a *app) filesOf(home *maildir.Home) (*offline.Files, error) {
	return offline.Open(home, a.agent())
}

// offline is files, and says why they are read, once.
func (a *app) offline(why error) (*offline.Files, error) {
	if !a.noted {
		a.note("no daemon can be reached, this is what the files say (%s)", firstLine(why.Error()))
	}
	a.noted = true
	return a.files()
}
