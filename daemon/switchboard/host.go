package switchboard

import (
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"golang.org/x/time/rate"
)

// What another host can make this one keep and show.
const (
	maxCopies    = 1000     // of requests of which something can still come
	maxCopyBytes = 64 << 20 // of their texts
	ringRate     = 2        // requests a second, in the long run
	ringBurst    = 60
)

// host is what is known of another host. It is guarded by the switchboard's lock.
type host struct {
	line   *line     // nil while there is no link
	lost   time.Time // when the last one has ended
	copies int
	bytes  int
	rings  *rate.Limiter
}

// hostOf is what is known of a host. The caller holds the switchboard's lock.
func (s *Switchboard) hostOf(name string) *host {
	h := s.hosts[name]
	if h == nil {
		h = &host{rings: rate.NewLimiter(ringRate, ringBurst)}
		s.hosts[name] = h
	}
	return h
}

// size is how much of a request may be large.
func size(r call.Request) int { return len(r.Content) + len(r.Data) }

func (h *host) count(r call.Request) {
	h.copies++
	h.bytes += size(r)
}

func (h *host) uncount(r call.Request) {
	h.copies--
	h.bytes -= size(r)
}

// full says why there is to be no copy of a request.
func (h *host) full(r call.Request, now time.Time) string {
	switch {
	case h.copies >= maxCopies || h.bytes+size(r) > maxCopyBytes:
		return "too many calls from " + r.From.Host + " are open here"
	case !h.rings.AllowN(now, 1):
		return "too many calls from " + r.From.Host + " at once"
	}
	return ""
}

// mayRing reports whether a host may make a request ring once more.
func (s *Switchboard) mayRing(l *line) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hostOf(l.session.Name).rings.AllowN(s.Now(), 1)
}

// lineTo is the link with a host, nil for none.
func (s *Switchboard) lineTo(name string) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.hosts[name]; h != nil {
		return h.line
	}
	return nil
}

// linkBegins notes a link, and makes known on it what is open.
func (s *Switchboard) linkBegins(l *line) {
	s.mu.Lock()
	s.hostOf(l.session.Name).line = l
	s.mu.Unlock()
	for _, e := range s.entries() {
		r := e.now.Load()
		switch {
		case r.Far != nil && r.Far.Host == l.session.Host:
			l.asks.add(r.ID)
		case r.Far == nil && calls(*r, l.session.Name):
			l.records.add(r.ID)
		}
	}
	s.lookAt(l.session.Name)
}

// linkEnds notes that a link has ended.
func (s *Switchboard) linkEnds(l *line) {
	s.mu.Lock()
	if h := s.hostOf(l.session.Name); h.line == l {
		h.line, h.lost = nil, s.Now()
	}
	s.mu.Unlock()
	s.lookAt(l.session.Name)
}

// lookAt looks at the calls in which somebody of a host is.
func (s *Switchboard) lookAt(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.calls {
		if r := e.now.Load(); calls(*r, host) || r.From.Host == host {
			s.hangups.Add(id)
		}
	}
}

// calls reports whether a request calls somebody of a host.
func calls(r call.Request, host string) bool {
	for _, a := range r.To {
		if a.Host == host {
			return true
		}
	}
	return false
}

// spread makes known what was written of a request: to the hosts of those who are called,
// where it is a copy to the host that has the record, and to requests that cross it. The
// caller holds the entry's lock.
func (s *Switchboard) spread(e *entry) {
	if e.spread == e.version {
		return
	}
	e.spread = e.version
	r := e.request
	if e.copy {
		if l := s.lineTo(r.From.Host); l != nil && len(r.Far.Answers) > 0 {
			l.asks.add(r.ID)
		}
	} else {
		for _, name := range hostsOf(r.To, s.Home.Host.Name) {
			if l := s.lineTo(name); l != nil {
				l.records.add(r.ID)
			}
		}
	}
	for _, x := range s.crossings(r) {
		s.rings.Add(x.now.Load().ID)
	}
}

// hostsOf lists the hosts of agents, each once, but for one.
func hostsOf(agents []envelope.Address, but string) (names []string) {
	seen := map[string]bool{but: true}
	for _, a := range agents {
		if !seen[a.Host] {
			seen[a.Host] = true
			names = append(names, a.Host)
		}
	}
	return names
}
