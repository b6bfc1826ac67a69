package durable

import (
	"io"
	"io/fs"
	"iter"
	"os"
)

const someEntries = 1024 // that are held at once

// Entries lists what is in a folder, in no order. However many files there are, it holds few
// of them. After an error there is nothing more.
func Entries(dir string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		f, err := os.Open(dir)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		for err == nil {
			var entries []fs.DirEntry
			entries, err = f.ReadDir(someEntries)
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
		if err != io.EOF {
			yield(nil, err)
		}
	}
}
