package daemontest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Cable is what lies between two hosts: connections to its address come out at its end,
// and it has faults.
type Cable struct {
	t    testing.TB
	in   net.Listener
	work sync.WaitGroup

	mu      sync.Mutex
	end     string
	pulled  bool
	deaf    [2]bool       // by direction: what is said goes nowhere
	delay   time.Duration // of each piece, one way
	rate    int           // bytes a second in each direction, 0 for no limit
	left    int           // bytes until it is pulled; negative for never
	open    map[net.Conn]struct{}
	carried int64
}

// The directions of a cable.
const (
	There = iota // from who dials
	Back
)

// NewCable lays a cable until the test ends. Connect says where it leads.
func NewCable(t testing.TB) *Cable {
	t.Helper()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{t: t, in: in, left: -1, open: make(map[net.Conn]struct{})}
	c.work.Go(c.serve)
	t.Cleanup(func() {
		_ = in.Close()
		c.Pull()
		c.work.Wait()
	})
	return c
}

// Address is where one dials it.
func (c *Cable) Address() string { return c.in.Addr().String() }

// Connect says where it leads.
func (c *Cable) Connect(address string) { c.set(func() { c.end = address }) }

func (c *Cable) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// Pull ends all connections, and lets no other one through until Plug.
func (c *Cable) Pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pull()
}

func (c *Cable) pull() {
	c.pulled = true
	for conn := range c.open {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is under way is lost
		}
		_ = conn.Close()
	}
	clear(c.open)
}

// Plug lets connections through.
func (c *Cable) Plug() { c.set(func() { c.pulled, c.left = false, -1 }) }

// PullAfter pulls it when so many bytes more have gone through, in the middle of whatever
// they are.
func (c *Cable) PullAfter(bytes int) { c.set(func() { c.left = bytes }) }

// Deafen makes what is said in a direction go nowhere, or lets it through again. The
// connections stay.
func (c *Cable) Deafen(direction int, on bool) { c.set(func() { c.deaf[direction] = on }) }

// Slow makes each piece take so long, one way, and lets so many bytes a second through
// in each direction; 0 is no limit.
func (c *Cable) Slow(delay time.Duration, rate int) { c.set(func() { c.delay, c.rate = delay, rate }) }

// Carried counts the bytes that went through.
func (c *Cable) Carried() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.carried
}

func (c *Cable) serve() {
	for {
		near, err := c.in.Accept()
		if err != nil {
			return
		}
		c.work.Go(func() { c.join(near) })
	}
}

func (c *Cable) join(near net.Conn) {
	defer near.Close()
	c.mu.Lock()
	end, pulled := c.end, c.pulled
	c.mu.Unlock()
	if end == "" || pulled {
		return
	}
	far, err := net.Dial("tcp", end)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	if pulled = c.pulled; !pulled {
		c.open[near], c.open[far] = struct{}{}, struct{}{}
	}
	c.mu.Unlock()
	if pulled {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { c.carry(near, far, There) })
	both.Go(func() { c.carry(far, near, Back) })
	both.Wait()
	c.set(func() { delete(c.open, near); delete(c.open, far) })
}

const piece = 16 << 10

// parcel is a piece on its way.
type parcel struct {
	bytes []byte
	due   time.Time
}

// carry carries one direction. Who reads never waits for who writes longer than the
// cable holds.
func (c *Cable) carry(from, to net.Conn, direction int) {
	way := make(chan parcel, 256)
	var both sync.WaitGroup
	both.Go(func() {
		defer close(way)
		for {
			buf := make([]byte, piece)
			n, err := from.Read(buf)
			if n > 0 {
				way <- parcel{buf[:n], time.Now().Add(c.lag())}
			}
			if err != nil {
				return
			}
		}
	})
	both.Go(func() {
		broken := false
		for p := range way {
			if broken {
				continue
			}
			time.Sleep(time.Until(p.due) + c.pause(len(p.bytes)))
			broken = c.put(to, p.bytes, direction) != nil
			if broken {
				_ = from.Close()
			}
		}
		if half, ok := to.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	})
	both.Wait()
}

func (c *Cable) lag() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.delay
}

func (c *Cable) pause(bytes int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rate == 0 {
		return 0
	}
	return time.Duration(bytes) * time.Second / time.Duration(c.rate)
}

var errPulled = errors.New("the cable is pulled")

func (c *Cable) put(to io.Writer, b []byte, direction int) error {
	c.mu.Lock()
	cut := c.left >= 0 && len(b) >= c.left
	if cut {
		b = b[:c.left]
	}
	if c.left >= 0 {
		c.left -= len(b)
	}
	deaf := c.deaf[direction]
	c.carried += int64(len(b))
	c.mu.Unlock()
	var err error
	if !deaf {
		_, err = to.Write(b)
	}
	if cut {
		c.Pull()
		err = errPulled
	}
	return err
}
