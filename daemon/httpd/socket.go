package httpd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/claude-duo/duo/maildir"
)

// Socket is the socket on which the daemon of a home listens.
type Socket struct {
	net.Listener
	home    *maildir.Home
	path    string
	outside bool        // of the home
	run     fs.FileInfo // the home's folder run/: in another one nothing is made
	file    fs.FileInfo // the socket
}

// Listen opens the socket of the home. A socket that is left of a daemon that died is
// replaced; one that answers is not.
func Listen(home *maildir.Home) (*Socket, error) {
	s := &Socket{home: home, path: home.ListenPath()}
	var err error
	if s.run, err = os.Stat(home.RunDir()); err == nil {
		dir, dirErr := os.Stat(filepath.Dir(s.path))
		s.outside = dirErr != nil || !os.SameFile(dir, s.run)
		err = s.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return s, nil
}

// open makes the socket, and the link to it where it is outside the home.
func (s *Socket) open() error {
	if err := s.claim(); err != nil {
		return err
	}
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // the path may be another listener's by then
	err = os.Chmod(s.path, 0o600)
	if err == nil {
		s.file, err = os.Lstat(s.path)
	}
	if err == nil {
		err = s.home.LinkSocket(s.path)
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s.Listener = listener
	return nil
}

// claim makes room for the socket. Whoever listens there keeps it; behind a link is the
// socket of another home.
func (s *Socket) claim() error {
	info, err := os.Lstat(s.path)
	if err == nil && info.Mode()&fs.ModeSymlink == 0 {
		if conn, err := net.DialTimeout("unix", s.path, time.Second); err == nil {
			_ = conn.Close() // it has told us what we wanted to know
			return fmt.Errorf("%q: %w", s.path, maildir.ErrRunning)
		}
	}
	dir := filepath.Dir(s.path)
	if s.outside { // what is the home's stays gone where the home is
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := maildir.CheckSafe(dir); err != nil {
		return err
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// restore makes the socket again where somebody has removed it, and reports that; or
// the link to it.
func (s *Socket) restore() (fresh bool, err error) {
	if !s.inPlace() {
		return false, nil // the daemon is about to notice, and to end
	}
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
		return true, s.open()
	}
	if s.outside {
		err = s.home.LinkSocket(s.path)
	}
	return false, err
}

// inPlace reports whether the home is still where it was.
func (s *Socket) inPlace() bool {
	run, err := os.Stat(s.home.RunDir())
	return err == nil && os.SameFile(run, s.run)
}

// Close ends listening and takes the socket away, unless its place is another one's by
// now.
func (s *Socket) Close() error {
	if file, err := os.Lstat(s.path); err == nil && os.SameFile(file, s.file) {
		_ = os.Remove(s.path) // who finds one asks whether it answers
	}
	if s.inPlace() {
		_ = s.home.UnlinkSocket(s.path) // a link to nowhere misleads nobody
	}
	return s.Listener.Close()
}
