package daemontest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/gorilla/websocket"
)

// forged stands in every text that nobody may be shown.
const forged = "FORGED"

// liar is a host that is linked with another one and says whatever a test wants.
type liar struct {
	t       *testing.T // the one that runs
	who     *identity.Host
	name    string
	victim  *remote
	id      string // of the victim
	address string // where it takes links
}

// newLiar pairs a host with the victim, by a real code.
func newLiar(t *testing.T, name string, victim *remote) *liar {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "host.name = %q\n", name), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{t: t, name: name, victim: victim}
	if l.who, err = identity.Open(home); err != nil {
		t.Fatal(err)
	}
	l.pair(victim.code())
	return l
}

func (p *remote) code() identity.Code {
	p.t.Helper()
	made, err := p.as("").NewCode(context.Background(), "")
	if err != nil {
		p.t.Fatal(err)
	}
	code, err := identity.ParseCode(made.Code)
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

func (l *liar) pair(code identity.Code) {
	l.t.Helper()
	conn, err := dial(code.Address)
	if err != nil {
		l.t.Fatal(err)
	}
	peer, err := l.who.Join(context.Background(), conn, code, credulous{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.id, l.address = peer.Keys.ID(), code.Address
}

// credulous is whoever believes everything.
type credulous struct{}

func (credulous) Check(identity.Keys) error { return nil }
func (credulous) Pin(identity.Peer) error   { return nil }

// dial connects from another address than honest hosts have, where the machine has one.
func dial(address string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := dialer.Dial("tcp", address)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return net.Dial("tcp", address)
	}
	return conn, err
}

// connect makes a connection on which TLS has proved who the liar is.
func (l *liar) connect() (net.Conn, error) {
	raw, err := dial(l.address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	conn := tls.Client(raw, l.who.ClientConfig(l.id, credulous{}))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (l *liar) hello() string {
	return fmt.Sprintf(`{"t":"hello","versions":[1],"host":%q,"name":%q,"credit":{"mail":1048576,"bulk":262144}}`, l.who.ID(), l.name)
}

func (l *liar) agent(name string) envelope.Address {
	return envelope.Address{Name: name, Host: l.name}
}

// line is an envelope as the liar's logs have it.
func (l *liar) line(e *envelope.Envelope) string {
	e.Timestamp = max(e.Timestamp, time.Now().UnixMilli())
	if e.ID == "" {
		e.ID = envelope.NewID()
	}
	return string(e.Append(nil))
}

// submission is an envelope as the liar's spool has it.
func (l *liar) submission(e *envelope.Envelope) string {
	if e.ID == "" {
		e.ID = envelope.NewID()
	}
	if e.After == nil {
		e.After = envelope.Int(1)
	}
	text, _ := e.AppendDraft(nil)
	return fmt.Sprintf(`{"host":%q,"sig":%q,"envelope":%s}`, l.who.ID(), base64.StdEncoding.EncodeToString(l.who.Sign(e.Signed())), text)
}

// begin is the first line of a conversation of the liar with somebody, and its id.
func (l *liar) begin(who envelope.Address, hosts map[string]string, with ...envelope.Address) (id, line string) {
	create := &envelope.Envelope{
		Seq: 1, ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, From: who,
		Origin: l.who.ID(), Mode: "async", Topic: "of the liar", Participants: append([]envelope.Address{who}, with...), Hosts: hosts,
	}
	create.Conversation = envelope.ConversationID(create.Origin, create.ID)
	return create.Conversation, l.line(create)
}

// voice is a link of the liar with the victim.
type voice struct {
	*liar
	ws    *websocket.Conn
	ended chan struct{} // closed when the victim says no more

	say    sync.Mutex // one who writes
	number map[string]int

	mu    sync.Mutex
	deaf  bool // acknowledges nothing
	heard []string
	acked map[string]int
	bye   string // its code
}

// speak opens a link and says hello. A person at the victim has released the liar before,
// if it was held.
func (l *liar) speak() *voice {
	l.t.Helper()
	l.release()
	v, err := l.open(l.hello())
	if err != nil {
		l.t.Fatal(err)
	}
	v.until("heads", func(f string) bool { return strings.HasPrefix(f, `{"t":"heads"`) && strings.Contains(f, `"all":true`) })
	return v
}

// release is what a person does who trusts the liar again.
func (l *liar) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, _ = l.victim.as("").PingPeer(ctx, l.name) // it is not reached
}

func (l *liar) open(hello string) (*voice, error) {
	conn, err := l.connect()
	if err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	ws, resp, err := dialer.Dial("ws://duo"+link.Path, nil)
	if err != nil {
		_ = conn.Close()
		if resp != nil {
			err = fmt.Errorf("%w: %s", err, resp.Status)
		}
		return nil, err
	}
	v := &voice{liar: l, ws: ws, ended: make(chan struct{}), number: make(map[string]int), acked: make(map[string]int)}
	go v.listen()
	l.t.Cleanup(v.hangUp)
	return v, v.raw(hello)
}

// hangUp ends the link without a word.
func (v *voice) hangUp() {
	_ = v.ws.Close()
	<-v.ended
}

// listen hears and acknowledges what the victim says, until it says no more.
func (v *voice) listen() {
	defer close(v.ended)
	for {
		_, data, err := v.ws.ReadMessage()
		if err != nil {
			return
		}
		head, _, _ := bytes.Cut(data, []byte("\n"))
		var h struct {
			T, Code    string
			Mail, Bulk int
		}
		if json.Unmarshal(head, &h) != nil {
			return
		}
		v.mu.Lock()
		v.heard = append(v.heard, string(data))
		deaf := v.deaf
		switch h.T {
		case "ack":
			v.acked["mail"], v.acked["bulk"] = h.Mail, h.Bulk
		case "bye":
			v.bye = h.Code
		}
		v.mu.Unlock()
		if h.T == "ack" || deaf {
			continue
		}
		if h.Mail > 0 {
			_ = v.raw(fmt.Sprintf(`{"t":"ack","mail":%d}`, h.Mail)) // who does not hear it has ended
		} else if h.Bulk > 0 {
			_ = v.raw(fmt.Sprintf(`{"t":"ack","bulk":%d}`, h.Bulk))
		}
	}
}

// raw says a message as it is.
func (v *voice) raw(message string) error {
	v.say.Lock()
	defer v.say.Unlock()
	_ = v.ws.SetWriteDeadline(time.Now().Add(daemontest.Patience))
	return v.ws.WriteMessage(websocket.TextMessage, []byte(message))
}

// frame says a frame of a lane that has credit, and reports its number.
func (v *voice) frame(lane, kind, header string, lines ...string) (number int, err error) {
	v.say.Lock()
	v.number[lane]++
	number = v.number[lane]
	v.say.Unlock()
	text := fmt.Sprintf(`{"t":%q,%q:%d%s}`, kind, lane, number, header)
	return number, v.raw(strings.Join(append([]string{text}, lines...), "\n"))
}

// tell says a frame and waits until the victim has dealt with it. It reports false where
// the victim ends the link.
func (v *voice) tell(lane, kind, header string, lines ...string) bool {
	v.t.Helper()
	number, err := v.frame(lane, kind, header, lines...)
	ok := err == nil
	daemontest.Eventually(v.t, func() (bool, string) {
		select {
		case <-v.ended:
			ok = false
			return true, ""
		default:
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.acked[lane] >= number, fmt.Sprintf("%s %d of %s is not acknowledged, %d is", kind, number, lane, v.acked[lane])
	})
	return ok
}

func (v *voice) lines(conversation string, lines ...string) bool {
	v.t.Helper()
	return v.tell("mail", "lines", fmt.Sprintf(`,"conversation":%q`, conversation), lines...)
}

func (v *voice) submit(e *envelope.Envelope) bool {
	v.t.Helper()
	return v.tell("mail", "submit", `,"first":true`, v.submission(e))
}

// until waits for a frame.
func (v *voice) until(what string, is func(string) bool) {
	v.t.Helper()
	daemontest.Eventually(v.t, func() (bool, string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		return slices.ContainsFunc(v.heard, is), fmt.Sprintf("%s; got %d frames, the last %.300q, bye %q", what, len(v.heard), v.heard[max(0, len(v.heard)-1):], v.bye)
	})
}

// refused waits until the victim refuses what has an id.
func (v *voice) refused(id, code string) {
	v.t.Helper()
	v.until("refused "+code, func(f string) bool {
		return strings.HasPrefix(f, `{"t":"refused"`) && strings.Contains(f, fmt.Sprintf(`"id":%q,"code":%q`, id, code))
	})
}

// wantBye waits until the victim ends the link, and wants it to say why.
func (v *voice) wantBye(code link.Code) {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(daemontest.Patience):
		v.t.Fatalf("the link does not end, want goodbye %q", code)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bye != string(code) {
		v.t.Errorf("got goodbye %q, want %q", v.bye, code)
	}
}

// wantUp wants the link to be there, with all that was said taken.
func (v *voice) wantUp() {
	v.t.Helper()
	n := time.Now().UnixNano()
	if err := v.raw(fmt.Sprintf(`{"t":"echo","n":%d}`, n)); err != nil {
		v.lost(err)
	}
	v.until("the echo of a link that is up", func(f string) bool {
		return strings.HasPrefix(f, `{"t":"echoed"`) && strings.Contains(f, fmt.Sprint(n))
	})
}

// lost fails the test: the link has ended.
func (v *voice) lost(err error) {
	v.t.Helper()
	select {
	case <-v.ended:
	case <-time.After(daemontest.Patience):
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.t.Fatalf("the link ends: %v; the last that was heard is %.500q", err, v.heard[max(0, len(v.heard)-1):])
}

// present shows the agents of the liar.
func (v *voice) present(names ...string) {
	v.t.Helper()
	text := `{"t":"presence","snapshot":true,"last":true}`
	for _, name := range names {
		text += fmt.Sprintf("\n"+`{"name":%q,"status":"available"}`, name)
	}
	if err := v.raw(text); err != nil {
		v.t.Fatal(err)
	}
}

// pulse notes the longest time in which a file has not grown.
type pulse struct {
	stop    chan struct{}
	done    sync.WaitGroup
	longest time.Duration
}

func newPulse(path string) *pulse {
	p := &pulse{stop: make(chan struct{})}
	p.done.Go(func() {
		size, since := int64(0), time.Now()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			info, err := os.Stat(path)
			if err == nil && info.Size() != size {
				size, since = info.Size(), time.Now()
			}
			p.longest = max(p.longest, time.Since(since))
		}
	})
	return p
}

// end returns the longest time.
func (p *pulse) end() time.Duration {
	close(p.stop)
	p.done.Wait()
	return p.longest
}

// rss is the memory that a daemon holds now, in MiB, 0 where that is not told.
func (p *remote) rss() int {
	p.mu.Lock()
	pid := p.cmd.Process.Pid
	p.mu.Unlock()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	var kib int
	_, _ = fmt.Sscan(rest, &kib) // 0 where it cannot be read
	return kib >> 10
}

// wantNoLie wants nothing that is forged in the logs and folders of agents of a host.
func (p *remote) wantNoLie() {
	p.t.Helper()
	for _, dir := range []string{"conversations", "agents", "requests"} {
		err := filepath.WalkDir(filepath.Join(p.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err == nil && bytes.Contains(data, []byte(forged)) {
				p.t.Errorf("%s has a lie: %.400s", path, data[bytes.Index(data, []byte(forged)):])
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file that has gone on
			p.t.Error(err)
		}
	}
}

// peerState is how it stands with the liar, at the victim.
func (l *liar) peerState() api.Peer {
	l.t.Helper()
	p, err := l.victim.as("").Peer(context.Background(), l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}
