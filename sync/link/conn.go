package link

import (
	"net"
	"sync"
	"time"
)

// paced is a connection on which no single step takes long: a read must bring a byte
// within the silence that is allowed, and what is written must move.
type paced struct {
	net.Conn

	mu     sync.Mutex
	ending bool
}

const piece = 32 << 10 // bytes that must go out within writeTime

func (p *paced) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (p *paced) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		if err := p.hurry(); err != nil {
			return written, err
		}
		var n int
		n, err = p.Conn.Write(b[:min(len(b), piece)])
		written, b = written+n, b[n:]
	}
	return written, err
}

// end leaves what is still to be written little time.
func (p *paced) end() {
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	_ = p.hurry() // a connection that is closed has no deadlines
}

func (p *paced) hurry() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := writeTime
	if p.ending {
		limit = byeTime
	}
	return p.Conn.SetWriteDeadline(time.Now().Add(limit))
}
