//go:build !linux

package daemon

// residentMemory is not known here.
func residentMemory() (bytes int64, ok bool) { return 0, false }

// openFiles is not known here.
func openFiles() (n int, ok bool) { return 0, false }
