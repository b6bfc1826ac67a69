// Package index is a cache of what can be read from the logs: a buntdb file that may
// be deleted at any time. A damaged one, or what is no file, is thrown away and made again. Each value
// stands for itself, so a crash that loses some of them costs only time.
package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/tidwall/buntdb"
)

// Index keeps values by key.
type Index struct{ db *buntdb.DB }

// Open opens the index at path. It reports whether it had to start with an empty one.
// Only one process may have it open.
func Open(path string) (x *Index, fresh bool, err error) {
	db, err := open(path)
	if err == nil {
		return &Index{db}, false, nil
	}
	if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("open index: %w", errors.Join(err, removeErr))
	}
	if db, err = open(path); err != nil {
		return nil, false, err
	}
	return &Index{db}, true, nil
}

// OpenMemory returns an index that is gone when it is closed, for a disk that takes
// no more files.
func OpenMemory() (*Index, error) {
	db, err := buntdb.Open(":memory:")
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	return &Index{db}, nil
}

func open(path string) (*buntdb.DB, error) {
	if err := durable.CheckRegular(path); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // buntdb would make it readable for others
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	db, err := buntdb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open index %q: %w", path, err)
	}
	var config buntdb.Config
	if err := db.ReadConfig(&config); err != nil {
		return nil, errors.Join(fmt.Errorf("configure index: %w", err), db.Close())
	}
	config.SyncPolicy = buntdb.Never
	if err := db.SetConfig(config); err != nil {
		return nil, errors.Join(fmt.Errorf("configure index: %w", err), db.Close())
	}
	return db, nil
}

// Close closes the index.
func (x *Index) Close() error {
	if err := x.db.Close(); err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// Get returns the value of a key, and false where there is none.
func (x *Index) Get(key string) (value []byte, ok bool) {
	err := x.db.View(func(tx *buntdb.Tx) error {
		text, err := tx.Get(key)
		value = []byte(text)
		return err
	})
	return value, err == nil
}

// Put stores a value. A cache that cannot be written stays behind; nothing else
// depends on it.
func (x *Index) Put(key string, value []byte) error {
	err := x.db.Update(func(tx *buntdb.Tx) error {
		_, _, err := tx.Set(key, string(value), nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}
