package files_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/files"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

const (
	piece = 64 << 10
	never = 99 // a line that no site has
)

// site is a host with a keeper and an exchange, of which the test says what it shares.
type site struct {
	*files.Keeper
	*files.Exchange
	t    *testing.T
	name string
	home *maildir.Home

	mu     sync.Mutex
	grants map[string]files.Grant // by sum
	lines  map[string]int64       // by sum
	counts map[string]int
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(`host.name = "`+name+`"`), 0o600))
	home, err := maildir.Init(dir)
	must(t, err)
	s := &site{t: t, name: name, home: home, grants: make(map[string]files.Grant), lines: make(map[string]int64), counts: make(map[string]int)}
	s.restart()
	return s
}

// restart forgets all that is not on disk.
func (s *site) restart() {
	logger := slog.New(slog.DiscardHandler)
	s.Keeper = files.New(s.home, &memory{values: make(map[string]string)}, logger, time.Now)
	s.Exchange = files.NewExchange(s.Keeper, s, logger)
	s.Count(s)
}

func (s *site) Shares(_ context.Context, _ files.Peer, place blob.Source, sum string) files.Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	if place.Seq == never {
		return files.NotYet
	}
	return s.grants[sum]
}

func (s *site) Line(_ context.Context, _, sum string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[sum], nil
}

func (s *site) File(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *site) counted(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// offer makes a file that the site shares.
func (s *site) offer(data []byte) envelope.Attachment {
	s.t.Helper()
	a, err := s.Keeper.Take("Atlas", "a.bin", "", bytes.NewReader(data))
	must(s.t, err)
	s.grant(a.SHA256, files.Granted)
	return a
}

func (s *site) grant(sum string, g files.Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants[sum] = g
}

func (s *site) wants(a envelope.Attachment, hosts ...string) {
	s.t.Helper()
	for _, host := range hosts {
		must(s.t, s.Wanted(host, conversation, 7, []envelope.Attachment{a}))
	}
}

func (s *site) has(a envelope.Attachment) bool {
	f, err := s.Keeper.Open(a.SHA256)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// settled reports that the site has a file and nothing that is unfinished.
func (s *site) wantHas(a envelope.Attachment) {
	s.t.Helper()
	if !s.has(a) {
		s.t.Errorf("%s has not got the file: %v", s.name, s.Absent(a))
	}
	if left, _ := os.ReadDir(filepath.Join(s.home.BlobsDir(), blob.WantDir)); len(left) > 0 {
		s.t.Errorf("%s still wants %v", s.name, left)
	}
}

func (s *site) side(wrap func(net.Conn) net.Conn) peertest.Side {
	return peertest.Side{ID: "id-of-" + s.name, Name: s.name, Services: []peer.Service{s}, Wrap: wrap}
}

// Open is that of the exchange: the keeper has another one.
func (s *site) Open(session *peer.Session) peer.Line { return s.Exchange.Open(session) }

func noise(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = random.Read(data)
	return data
}

// wire counts what is written to a connection, and breaks it after so many bytes.
type wire struct {
	net.Conn
	sent *atomic.Int64
	left int64 // 0 for no end
}

func (w *wire) Write(p []byte) (int, error) {
	if w.left > 0 {
		if w.left -= int64(len(p)); w.left <= 0 {
			_ = w.Close()
			return 0, errors.New("cut")
		}
	}
	n, err := w.Conn.Write(p)
	w.sent.Add(int64(n))
	return n, err
}

func counting(sent *atomic.Int64, left int64) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn { return &wire{c, sent, left} }
}

// TestCuts: a file crosses however often the link breaks, and what is here is not sent
// again: neither after a break nor after a restart.
func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		data := noise(10<<20 + 12345)
		a := nyc.offer(data)
		lon.wants(a, "nyc")
		var sent atomic.Int64
		links := 0
		for ; !lon.has(a) && links < 100; links++ {
			l, _, _ := peertest.Connect(t, nyc.side(counting(&sent, 100_000+int64(links)*31_337)), lon.side(nil))
			synctest.Wait()
			l.Cut()
			if links%3 == 0 {
				lon.restart()
			}
			time.Sleep(time.Second)
		}
		lon.wantHas(a)
		if most := int64(len(data) + links*(piece+4096)); links < 10 || sent.Load() > most {
			t.Errorf("got %d bytes over %d links, want at most %d over more than 10", sent.Load(), links, most)
		}
	})
}

// TestSizes: those around a piece, and none.
func TestSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		for _, n := range []int{0, 1, piece - 1, piece, piece + 1, 3 * piece} {
			a := nyc.offer(noise(n))
			lon.wants(a, "nyc")
			synctest.Wait()
			lon.wantHas(a)
		}
	})
}

// TestCrossesOnce: a file that several messages bring, from several hosts, is got once.
func TestCrossesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, ber, lon := newSite(t, "nyc"), newSite(t, "ber"), newSite(t, "lon")
		data := noise(20 * piece)
		a := nyc.offer(data)
		ber.offer(data)
		for seq := range int64(10) {
			for _, host := range []string{"nyc", "ber", "NYC"} {
				must(t, lon.Wanted(host, conversation, seq+1, []envelope.Attachment{a}))
			}
		}
		var sent atomic.Int64
		peertest.Connect(t, nyc.side(counting(&sent, 0)), lon.side(nil))
		peertest.Connect(t, ber.side(counting(&sent, 0)), lon.side(nil))
		synctest.Wait()
		lon.wants(a, "nyc", "ber") // it is here
		synctest.Wait()
		lon.wantHas(a)
		if most := int64(len(data) + 2*piece); sent.Load() > most {
			t.Errorf("got %d bytes, want at most %d", sent.Load(), most)
		}
	})
}

// TestMany: more files than are got at a time.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		var all []envelope.Attachment
		for n := range 30 {
			all = append(all, nyc.offer(noise(n*7000)))
		}
		for _, a := range all[:15] {
			lon.wants(a, "nyc")
		}
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		for _, a := range all[15:] {
			lon.wants(a, "nyc")
		}
		synctest.Wait()
		for _, a := range all {
			lon.wantHas(a)
		}
	})
}

// TestLater: a file that the other host has still to get itself is asked for until it is
// there, and one that it does not give, less and less.
func TestLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		data := noise(1000)
		a := newSite(t, "sfo").offer(data)
		nyc.grant(a.SHA256, files.NotYet)
		lon.wants(a, "nyc")
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		time.Sleep(time.Minute)
		if n := lon.counted("missing"); n < 5 || n > 20 {
			t.Errorf("asked %d times in a minute, want some", n)
		}
		nyc.offer(data)
		time.Sleep(laterLimit)
		lon.wantHas(a)

		other := newSite(t, "sfo").offer(noise(1001))
		lon.wants(other, "nyc")
		before := lon.counted("missing")
		time.Sleep(24 * time.Hour)
		if n := lon.counted("missing") - before; n < 24 || n > 80 {
			t.Errorf("asked %d times in a day, want about once an hour", n)
		}
		for range 60 { // somebody waits for it
			if err := lon.Absent(other); code(err) != api.OnItsWay {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := lon.counted("missing") - before; n > 82 {
			t.Errorf("asked %d times", n)
		}
		data = noise(1001)
		nyc.offer(data)
		_ = lon.Absent(other)
		synctest.Wait()
		lon.wantHas(other)
	})
}

const laterLimit = 10 * time.Minute

// TestOtherPlace: a place that says nothing of a file keeps no other one from it.
func TestOtherPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		a := nyc.offer(noise(3 * piece))
		must(t, lon.Wanted("nyc", conversation, never, []envelope.Attachment{a}))
		lon.wants(a, "nyc")
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		time.Sleep(time.Minute)
		lon.wantHas(a)
	})
}

// TestNumberIsFound: a message that had no number when it was noted is asked for when it
// has one.
func TestNumberIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		a := nyc.offer(noise(1000))
		must(t, lon.Expect("nyc", conversation, []envelope.Attachment{a}))
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		time.Sleep(time.Second)
		if lon.has(a) {
			t.Error("it was asked for without a place")
		}
		lon.mu.Lock()
		lon.lines[a.SHA256] = 3
		lon.mu.Unlock()
		time.Sleep(time.Minute)
		lon.wantHas(a)
	})
}

// puppet is a host that does what the test says.
type puppet struct {
	session *peer.Session
	frames  chan link.Frame
	answer  func(p *puppet, f link.Frame) // of a get; may be nil
}

func newPuppet(answer func(*puppet, link.Frame)) *puppet {
	return &puppet{frames: make(chan link.Frame, 1000), answer: answer}
}

func (p *puppet) Types() []string                { return []string{"get", "blob", "note"} }
func (p *puppet) Open(s *peer.Session) peer.Line { p.session = s; return p }
func (p *puppet) Close()                         {}

func (p *puppet) Take(f link.Frame) error {
	p.session.Done(f)
	if f.Type == "get" && p.answer != nil {
		go p.answer(p, f)
		return nil
	}
	p.frames <- f
	return nil
}

func (p *puppet) send(kind string, lane link.Lane, header string, data []byte) {
	_ = p.session.Send(context.Background(), link.Frame{Type: kind, Lane: lane, Header: []byte(header), Data: data})
}

func (p *puppet) side(name string) peertest.Side {
	return peertest.Side{ID: "id-of-" + name, Name: name, Services: []peer.Service{p}}
}

type getHeader struct {
	SHA256   string
	From, To int64
}

func got(f link.Frame) (g getHeader) {
	_ = json.Unmarshal(f.Header, &g)
	return g
}

func (p *puppet) blob(g getHeader, from, size int64, data []byte) {
	p.send("blob", link.Bulk, fmt.Sprintf(`{"sha256":"%s","from":%d,"size":%d}`, g.SHA256, from, size), data)
}

// TestWrongBytes are thrown away. The other host is asked, and the liar again later.
func TestWrongBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ber, lon := newSite(t, "ber"), newSite(t, "lon")
		data := noise(5 * piece)
		liar := newPuppet(func(p *puppet, f link.Frame) {
			g := got(f)
			p.blob(g, g.From, int64(len(data)), make([]byte, min(g.To, int64(len(data)))-g.From))
		})
		a := ber.offer(data)
		lon.wants(a, "nyc", "ber")
		peertest.Connect(t, liar.side("nyc"), lon.side(nil))
		time.Sleep(24 * time.Hour)
		if n := lon.counted("wrong"); n < 10 || n > 60 {
			t.Errorf("%d times wrong in a day, want about once an hour", n)
		}
		l, _, _ := peertest.Connect(t, ber.side(nil), lon.side(nil))
		synctest.Wait()
		lon.wantHas(a)
		l.Cut()
	})
}

// TestMixed: where one host has given a wrong beginning and another the right end, one has
// to give all of it.
func TestMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ber, lon := newSite(t, "ber"), newSite(t, "lon")
		data := noise(5 * piece)
		liar := newPuppet(func(p *puppet, f link.Frame) {
			g := got(f)
			if g.From < 2*piece {
				p.blob(g, g.From, int64(len(data)), make([]byte, piece))
			}
		})
		a := ber.offer(data)
		lon.wants(a, "nyc", "ber")
		for range 3 {
			l, _, _ := peertest.Connect(t, liar.side("nyc"), lon.side(nil))
			synctest.Wait()
			l.Cut()
		}
		peertest.Connect(t, ber.side(nil), lon.side(nil))
		synctest.Wait()
		if lon.has(a) || lon.counted("wrong") != 1 {
			t.Fatalf("got it: %t, %d times wrong; want what both have given thrown away", lon.has(a), lon.counted("wrong"))
		}
		peertest.Connect(t, liar.side("nyc"), lon.side(nil)) // gives its beginning again
		time.Sleep(time.Hour)
		lon.wantHas(a)
		if lon.counted("wrong") != 1 {
			t.Errorf("%d times wrong, want once", lon.counted("wrong"))
		}
	})
}

// TestBrokenRules: who answers what was not asked has ended the link, and harmed nothing.
func TestBrokenRules(t *testing.T) {
	size := int64(3 * piece)
	for name, answer := range map[string]func(p *puppet, g getHeader){
		"another range":   func(p *puppet, g getHeader) { p.blob(g, g.From+1, size, make([]byte, piece)) },
		"earlier":         func(p *puppet, g getHeader) { p.blob(g, -1, size, make([]byte, piece)) },
		"too long":        func(p *puppet, g getHeader) { p.blob(g, g.From, size, make([]byte, piece+1)) },
		"too short":       func(p *puppet, g getHeader) { p.blob(g, g.From, size, make([]byte, piece-1)) },
		"no progress":     func(p *puppet, g getHeader) { p.blob(g, g.From, size, []byte{}) },
		"a negative size": func(p *puppet, g getHeader) { p.blob(g, g.From, -1, []byte{}) },
		"missing with bytes": func(p *puppet, g getHeader) {
			p.send("blob", link.Bulk, `{"sha256":"`+g.SHA256+`","missing":true}`, []byte("x"))
		},
		"without bytes": func(p *puppet, g getHeader) { p.blob(g, g.From, size, nil) },
		"in another lane": func(p *puppet, g getHeader) {
			p.send("blob", link.Mail, fmt.Sprintf(`{"sha256":"%s","size":1}`, g.SHA256), []byte("x"))
		},
		"without a number": func(p *puppet, g getHeader) {
			p.send("blob", link.Presence, fmt.Sprintf(`{"sha256":"%s","size":1}`, g.SHA256), []byte("x"))
		},
		"another file": func(p *puppet, g getHeader) { p.blob(getHeader{SHA256: strings.Repeat("0", 64)}, 0, 1, []byte("x")) },
		"twice": func(p *puppet, g getHeader) {
			p.blob(g, 0, size, make([]byte, piece))
			p.blob(g, 0, size, make([]byte, piece))
		},
		"no header": func(p *puppet, g getHeader) { p.send("blob", link.Bulk, `{"sha256":7}`, []byte("x")) },
		"numbers too big": func(p *puppet, g getHeader) {
			p.send("blob", link.Bulk, `{"sha256":"`+g.SHA256+`","size":1e30}`, []byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lon := newSite(t, "lon")
				liar := newPuppet(func(p *puppet, f link.Frame) {
					if got(f).From == 0 {
						answer(p, got(f))
					}
				})
				lon.wants(envelope.Attachment{Name: "a", Size: size, SHA256: strings.Repeat("a", 64)}, "nyc")
				l, nyc, _ := peertest.Connect(t, liar.side("nyc"), lon.side(nil))
				synctest.Wait()
				wantFault(t, nyc)
				l.Cut()
			})
		})
	}
}

// wantFault checks that the other side has ended a link for a broken rule.
func wantFault(t *testing.T, s *peer.Session) {
	t.Helper()
	var bye *link.Bye
	if cause := context.Cause(s.Context()); !errors.As(cause, &bye) || bye.Code != link.CodeFrame || !bye.Received {
		t.Errorf("the link ended with %v, want the goodbye %q", cause, link.CodeFrame)
	}
}

// TestAnotherSize: a file that is larger than its message says is not taken.
func TestAnotherSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		a := nyc.offer(noise(3 * piece))
		said := a
		said.Size--
		lon.wants(said, "nyc")
		var sent atomic.Int64
		peertest.Connect(t, nyc.side(counting(&sent, 0)), lon.side(nil))
		synctest.Wait()
		if lon.has(a) || lon.counted("wrong") != 1 || sent.Load() > 2*piece {
			t.Errorf("got it: %t, %d times wrong after %d bytes; want it refused at once", lon.has(a), lon.counted("wrong"), sent.Load())
		}
		huge := envelope.Attachment{Name: "huge", Size: 1 << 40, SHA256: strings.Repeat("a", 64)}
		lon.wants(huge, "nyc")
		if err := lon.Expect("nyc", conversation, []envelope.Attachment{huge}); code(err) != api.TooLarge {
			t.Errorf("expect: got %v, want %s", err, api.TooLarge)
		}
		if err := lon.Absent(huge, blob.Source{Host: "nyc"}); code(err) != api.TooLarge {
			t.Errorf("absent: got %v, want %s", err, api.TooLarge)
		}
	})
}

// TestSilence: whoever does not answer keeps a file from nobody, and an answer that comes
// late harms nothing.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ber, lon := newSite(t, "ber"), newSite(t, "lon")
		var all []envelope.Attachment
		for n := range 6 {
			all = append(all, ber.offer(noise(1000+n)))
		}
		liar := newPuppet(nil)
		for _, a := range all {
			lon.wants(a, "nyc")
		}
		peertest.Connect(t, liar.side("nyc"), lon.side(nil))
		synctest.Wait()
		asked := []getHeader{}
		for len(liar.frames) > 0 {
			asked = append(asked, got(<-liar.frames))
		}
		if len(asked) != 4 {
			t.Fatalf("asked for %d files at a time, want 4", len(asked))
		}
		for _, a := range all {
			lon.wants(a, "ber")
		}
		peertest.Connect(t, ber.side(nil), lon.side(nil))
		time.Sleep(3 * time.Minute)
		for _, a := range all {
			lon.wantHas(a)
		}
		if len(liar.frames) > 0 {
			t.Errorf("asked for %d more without an answer", len(liar.frames))
		}
		liar.blob(asked[0], 0, 5, []byte("wrong"))
		more := ber.offer(noise(2000))
		lon.wants(more, "nyc")
		synctest.Wait()
		if len(liar.frames) != 1 {
			t.Errorf("after an answer, asked for %d, want 1", len(liar.frames))
		}
		for _, a := range all {
			if !lon.has(a) {
				t.Error("a file is gone")
			}
		}
	})
}

// TestLyingAsker: nobody gets what is not shared with it, or asks for what cannot be.
func TestLyingAsker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newSite(t, "nyc")
		secret := nyc.offer([]byte("secret"))
		nyc.grant(secret.SHA256, files.Refused)
		asker := newPuppet(nil)
		peertest.Connect(t, nyc.side(nil), asker.side("lon"))
		for _, sum := range []string{secret.SHA256, strings.Repeat("0", 64)} {
			asker.send("get", link.Mail, getOf(sum, 0, piece), nil)
			synctest.Wait()
			time.Sleep(time.Second)
			f := <-asker.frames
			if !bytes.Contains(f.Header, []byte(`"missing":true`)) || bytes.Contains(f.Header, []byte("later")) || len(f.Data) > 0 {
				t.Errorf("got %s, want missing", f.Header)
			}
		}
		if nyc.counted("refused") != 2 {
			t.Errorf("%d refused, want 2", nyc.counted("refused"))
		}
	})
	shared := []byte("shared")
	sum := newSite(t, "x").offer(shared).SHA256
	place := `,"conversation":"` + conversation + `","seq":7}`
	for name, header := range map[string]string{
		"negative":       getOf(sum, -1, 5),
		"nothing":        getOf(sum, 5, 5),
		"backwards":      getOf(sum, 5, 1),
		"too much":       getOf(sum, 0, piece+1),
		"overflow":       getOf(sum, -9223372036854775808, 9223372036854775807),
		"no sum":         getOf("../key", 0, 5),
		"upper case":     getOf(strings.ToUpper(sum), 0, 5),
		"no place":       `{"sha256":"` + sum + `","from":0,"to":5}`,
		"a path":         strings.Replace(getOf(sum, 0, 5), conversation, "../../agents/atlas/x", 1),
		"two places":     strings.Replace(getOf(sum, 0, 5), `"seq":7`, `"seq":7,"request":"`+conversation+`"`, 1),
		"line 0":         strings.Replace(getOf(sum, 0, 5), `"seq":7`, `"seq":0`, 1),
		"a request line": `{"sha256":"` + sum + `","from":0,"to":5,"request":"` + conversation + `","seq":7}`,
		"text":           `{"sha256":"` + sum + `","from":"0","to":5` + place,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nyc := newSite(t, "nyc")
				nyc.offer(shared)
				asker := newPuppet(nil)
				_, _, lon := peertest.Connect(t, nyc.side(nil), asker.side("lon"))
				asker.send("get", link.Mail, header, nil)
				synctest.Wait()
				wantFault(t, lon)
			})
		})
	}
}

func getOf(sum string, from, to int64) string {
	return fmt.Sprintf(`{"sha256":"%s","from":%d,"to":%d,"conversation":"%s","seq":7}`, sum, from, to, conversation)
}

// TestFlood: who asks for more than it may has ended the link; behind the end of a file is
// nothing.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newSite(t, "nyc")
		a := nyc.offer(noise(10))
		asker := newPuppet(nil)
		_, _, lon := peertest.Connect(t, nyc.side(nil), asker.side("lon"))
		for _, from := range []int64{10, 11, 1 << 62} {
			asker.send("get", link.Mail, getOf(a.SHA256, from, from+piece), nil)
			synctest.Wait()
			if f := <-asker.frames; len(f.Data) != 0 || !bytes.Contains(f.Header, []byte(`"size":10`)) {
				t.Errorf("from %d: got %d bytes, %s", from, len(f.Data), f.Header)
			}
		}
		for range 1000 {
			asker.send("get", link.Mail, getOf(strings.Repeat("0", 64), 0, 5), nil)
		}
		synctest.Wait()
		wantFault(t, lon)
		if n := nyc.counted("refused"); n > 20 {
			t.Errorf("%d were looked for", n)
		}
	})
}

// TestMailGoesFirst: what is mail crosses a slow link while files do, behind the piece that
// is being written and no other.
func TestMailGoesFirst(t *testing.T) {
	const byteTime = time.Microsecond
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		for n := range 8 {
			lon.wants(nyc.offer(noise(4<<20+n)), "nyc")
		}
		notes := newPuppet(nil)
		far := lon.side(nil)
		far.Services = append(far.Services, onlyNotes{notes})
		_, session, _ := peertest.Connect(t, nyc.side(func(c net.Conn) net.Conn { return slow{c, byteTime} }), far)
		time.Sleep(time.Second)
		worst := time.Duration(0)
		for n := range 100 {
			before := time.Now()
			must(t, session.Send(context.Background(), link.Frame{Type: "note", Lane: link.Mail}))
			<-notes.frames
			worst = max(worst, time.Since(before))
			time.Sleep(time.Duration(n) * 1234 * time.Microsecond)
		}
		if most := byteTime * (piece + 1000); worst > most || lon.counted("fetched") == 8 {
			t.Errorf("a note waits for %s, want at most %s, while files cross", worst, most)
		}
		time.Sleep(time.Minute)
		if lon.counted("fetched") != 8 {
			t.Errorf("got %d files, want 8", lon.counted("fetched"))
		}
	})
}

// slow is a connection that takes a time for each byte.
type slow struct {
	net.Conn
	byteTime time.Duration
}

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * s.byteTime)
	return s.Conn.Write(p)
}

// onlyNotes is a puppet beside an exchange.
type onlyNotes struct{ *puppet }

func (o onlyNotes) Types() []string                { return []string{"note"} }
func (o onlyNotes) Open(s *peer.Session) peer.Line { o.session = s; return o }

// TestDiskTakesNothing: then nothing is asked for, for a while, and nobody is blamed.
func TestDiskTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		a := nyc.offer(noise(3 * piece))
		lon.wants(a, "nyc")
		way := filepath.Join(lon.home.BlobsDir(), blob.WantDir, a.SHA256+".part", "full")
		must(t, os.MkdirAll(way, 0o700))
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		time.Sleep(5*time.Minute + 5*time.Second)
		synctest.Wait()
		if n := lon.counted("paused"); n < 5 || n > 12 {
			t.Errorf("paused %d times in 5 minutes, want about every 30 s", n)
		}
		must(t, os.RemoveAll(filepath.Dir(way)))
		time.Sleep(time.Minute)
		lon.wantHas(a)
		if lon.counted("wrong") > 0 {
			t.Error("the other host is blamed")
		}
	})
}

// TestAbsent: who asks for a file hears how far it is.
func TestAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		data := noise(3 * piece)
		a := nyc.offer(data)
		lost := envelope.Attachment{Name: "lost", Size: 5, SHA256: strings.Repeat("0", 64)}
		if err := lon.Absent(lost); code(err) != api.AttachmentNotFound {
			t.Errorf("of nobody: got %v", err)
		}
		err := lon.Absent(a, blob.Source{Host: "nyc", Conversation: conversation, Seq: 7})
		var e *api.Error
		if !errors.As(err, &e) || e.Code != api.OnItsWay || e.Retry == 0 || !strings.Contains(e.Message, "waits for a link to nyc: 0 bytes of 192 KiB") {
			t.Errorf("without a link: got %v", err)
		}
		half := newPuppet(func(p *puppet, f link.Frame) {
			if g := got(f); g.From == 0 {
				p.blob(g, 0, int64(len(data)), data[:piece])
			}
		})
		l, _, _ := peertest.Connect(t, half.side("nyc"), lon.side(nil))
		synctest.Wait()
		if err := lon.Absent(a); err == nil || !strings.Contains(err.Error(), "is on its way from nyc: 64 KiB of 192 KiB") {
			t.Errorf("half: got %v", err)
		}
		l.Cut()
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		synctest.Wait()
		lon.wantHas(a)
	})
}

// TestWantsEnd: what is mentioned nowhere, or what nobody has given for long, is not waited
// for, and leaves nothing; what is mentioned is.
func TestWantsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lon := newSite(t, "lon")
		a := envelope.Attachment{Name: "a", Size: 2 * piece, SHA256: strings.Repeat("a", 64)}
		log := lon.home.LogPath(conversation)
		must(t, os.WriteFile(log, nil, 0o600))
		lon.wants(a, "nyc")
		half := newPuppet(func(p *puppet, f link.Frame) {
			if g := got(f); g.From == 0 {
				p.blob(g, 0, a.Size, make([]byte, piece))
			}
		})
		l, _, _ := peertest.Connect(t, half.side("nyc"), lon.side(nil))
		synctest.Wait()
		l.Cut()
		left := func() int {
			entries, _ := os.ReadDir(filepath.Join(lon.home.BlobsDir(), blob.WantDir))
			return len(entries)
		}
		for _, step := range []struct {
			wait time.Duration
			do   func()
			want int
		}{
			{26 * time.Hour, func() {}, 2},
			{26 * time.Hour, lon.restart, 2},
			{time.Minute, func() { must(t, os.Remove(log)) }, 0},
			{time.Minute, func() { must(t, os.WriteFile(log, nil, 0o600)); lon.wants(a, "nyc") }, 1},
			{29 * 24 * time.Hour, func() {}, 1},
			{25 * time.Hour, func() {}, 0},
		} {
			time.Sleep(step.wait)
			step.do()
			must(t, lon.Sweep(context.Background()))
			if got := left(); got != step.want {
				t.Errorf("after %s: got %d files, want %d", step.wait, got, step.want)
			}
		}
	})
}

// TestStrangeRecords: what lies among the records and is none harms nothing.
func TestStrangeRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newSite(t, "nyc"), newSite(t, "lon")
		a := nyc.offer(noise(piece + 5))
		lon.wants(a, "nyc")
		dir := filepath.Join(lon.home.BlobsDir(), blob.WantDir)
		for name, text := range map[string]string{
			strings.Repeat("b", 64) + ".json": "{",
			strings.Repeat("c", 64) + ".json": `{"sha256":"` + a.SHA256 + `","size":5}`,
			strings.Repeat("d", 64) + ".part": "orphan",
			".tmp-1":                          "unfinished",
			"README":                          "not ours",
			a.SHA256 + ".part":                "hello",
		} {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		lon.restart()
		peertest.Connect(t, nyc.side(nil), lon.side(nil))
		time.Sleep(time.Hour) // the beginning is wrong, and found to be so
		if !lon.has(a) {
			t.Errorf("not got: %v", lon.Absent(a))
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "README" {
			t.Errorf("got %v, want the README", left)
		}
	})
}

// TestPlacesAreBounded: a host that names many places for a file pushes out its own.
func TestPlacesAreBounded(t *testing.T) {
	lon := newSite(t, "lon")
	a := envelope.Attachment{Name: "a", Size: 5, SHA256: strings.Repeat("a", 64)}
	lon.wants(a, "ber")
	for seq := range int64(100) {
		must(t, lon.Wanted("nyc", conversation, seq+1, []envelope.Attachment{a}))
	}
	w, err := blob.At(lon.home.BlobsDir(), 1).WantOf(a.SHA256)
	must(t, err)
	if len(w.Sources) != 5 || w.Sources[0].Host != "ber" || w.Sources[4].Seq != 100 {
		t.Errorf("got %v, want that of ber and the last four of nyc", w.Sources)
	}
}
