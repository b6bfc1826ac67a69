package daemontest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The tests run themselves again as other programs, which can be killed. The variables
// tell which one, and what it needs to know.
const (
	envRole         = "DUO_TEST_ROLE"
	envAgent        = "DUO_TEST_AGENT"
	envConversation = "DUO_TEST_CONVERSATION" // empty: write to the agent of envTo
	envTo           = "DUO_TEST_TO"
	envTopics       = "DUO_TEST_TOPICS"    // not empty: begin a conversation with each message
	envFileSize     = "DUO_TEST_FILE_SIZE" // bytes that a file can have, for the role daemon
	envFault        = "DUO_TEST_FAULT"     // a planted fault
)

// The planted faults.
const (
	faultEarlyAck  = "early-ack" // library: says that a line is stored, and dies before it is
	faultDuplicate = "duplicate" // library: appends a line again without looking for it
	faultLostLine  = "lost-line" // daemon: a line that was committed goes away
	faultSync      = "sync"      // daemon: the disk fails now and then
)

func TestMain(m *testing.M) {
	roles := map[string]func() error{
		"daemon": playDaemon, "http": playHTTP, "library": playLibrary, "reader": playReader,
	}
	if play, ok := roles[os.Getenv(envRole)]; ok {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir) // rubbish at worst
	os.Exit(code)
}

// playDaemon is "duo daemon", with what tests need.
func playDaemon() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	syscall.Umask(0o077)
	if text := os.Getenv(envFileSize); text != "" {
		size, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return err
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size}); err != nil {
			return err
		}
	}
	opts := daemon.Options{Dir: os.Getenv("DUO_HOME"), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if os.Getenv(envFault) == faultLostLine {
		opts.Log.Sync = loseLine()
	}
	if os.Getenv("DUO_TEST_LOG") != "" {
		opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if os.Getenv(envFault) == faultSync {
		opts.Log.Sync = failNowAndThen()
	}
	return daemon.Run(ctx, opts)
}

// failNowAndThen is a disk that does not keep what it is asked to keep, now and then.
func failNowAndThen() func(*os.File) error {
	var syncs atomic.Int64
	return func(*os.File) error {
		if syncs.Add(1)%25 == 0 {
			return syscall.EIO
		}
		return nil
	}
}

// loseLine is a disk that forgets one line although it was asked to keep it.
func loseLine() func(*os.File) error {
	var syncs atomic.Int64
	return func(f *os.File) error {
		if syncs.Add(1) != 30 {
			return nil
		}
		data, err := os.ReadFile(f.Name())
		if err != nil {
			return err
		}
		return f.Truncate(int64(bytes.LastIndexByte(data[:len(data)-1], '\n') + 1))
	}
}

// eachToken calls do with every line of standard input, and prints what it says: the
// line is the text of a message, and the answer its acknowledgement.
func eachToken(do func(token string) (string, error)) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		answer, err := do(in.Text())
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return in.Err()
}

// tokenID is the id of the message with a text. It is the same when the message is sent
// again.
func tokenID(token string) string { return envelope.NamedID("token", token) }

func clientOf(agent string) (*client.Client, error) {
	home, err := maildir.Open(os.Getenv("DUO_HOME"))
	if err != nil {
		return nil, err
	}
	return client.New(home.SocketPath(), agent), nil
}

const (
	retryEvery = 10 * time.Millisecond
	retryFor   = time.Minute
)

// stubborn repeats what fails while the daemon is away or its disk is.
func stubborn[T any](do func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), retryFor)
	defer cancel()
	for {
		answer, err := do(ctx)
		var problem *api.Error
		if err == nil || !errors.As(err, &problem) || !problem.Retryable() {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(retryEvery):
		}
	}
}

// playHTTP sends through the socket.
func playHTTP() error {
	c, err := clientOf(os.Getenv(envAgent))
	if err != nil {
		return err
	}
	return eachToken(func(token string) (string, error) {
		posted, err := stubborn(func(ctx context.Context) (api.Posted, error) {
			draft := &envelope.Envelope{ID: tokenID(token), Type: envelope.Message, Content: token, Conversation: os.Getenv(envConversation)}
			if draft.Conversation == "" {
				draft.To = []string{os.Getenv(envTo)}
			}
			if os.Getenv(envTopics) != "" {
				draft.Topic = "About " + token
			}
			return c.Post(ctx, draft)
		})
		if err != nil {
			return "", err
		}
		return fmt.Sprint(token, " ", posted.Message.Envelope.Seq), nil
	})
}

// playReader reads the agent's mail through the socket: all that is unseen for each
// line of standard input.
func playReader() error {
	c, err := clientOf(os.Getenv(envAgent))
	if err != nil {
		return err
	}
	return eachToken(func(token string) (string, error) {
		return stubborn(func(ctx context.Context) (string, error) {
			messages, err := c.Read(ctx, api.Read{Limit: 200})
			if err != nil {
				return "", err
			}
			var places []api.Place
			for _, m := range messages.Messages {
				places = append(places, api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq})
			}
			return token, c.Shown(ctx, places)
		})
	})
}

// playLibrary appends to a log as any Go program can, with no daemon.
func playLibrary() error {
	home, err := maildir.Open(os.Getenv("DUO_HOME"))
	if err != nil {
		return err
	}
	w := &libraryWriter{home: home, path: home.LogPath(os.Getenv(envConversation)), fault: os.Getenv(envFault)}
	return eachToken(w.write)
}

type libraryWriter struct {
	home  *maildir.Home
	path  string
	fault string
	log   *convlog.Log
	count int
}

func (w *libraryWriter) write(token string) (string, error) {
	w.count++
	if w.fault == faultEarlyAck && w.count == 5 {
		fmt.Println(token)
		return "", syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	seq, err := w.stubborn(token, true)
	if err == nil && w.fault == faultDuplicate && w.count == 5 {
		_, err = w.stubborn(token, false)
	}
	return fmt.Sprint(token, " ", seq), err
}

// stubborn appends a message, and opens the log again where that fails.
func (w *libraryWriter) stubborn(token string, find bool) (seq int64, err error) {
	for range 100 {
		if w.log == nil {
			if w.log, err = convlog.Open(w.path, convlog.Tail{}, nil, convlog.Options{}); err != nil {
				return 0, err
			}
		}
		seq, err = w.append(token, find)
		if err == nil {
			return seq, nil
		}
		if !errors.Is(err, convlog.ErrBusy) {
			w.log = nil // whatever it was: the file is closed, or useless
		}
	}
	return 0, err
}

func (w *libraryWriter) append(token string, find bool) (seq int64, err error) {
	err = w.log.Update(context.Background(), func(tx *convlog.Tx) (err error) {
		if find {
			if seq, err = tx.Find(tokenID(token), 0, 0); seq != 0 || err != nil {
				return err
			}
		}
		e := &envelope.Envelope{
			ID: tokenID(token), Type: envelope.Message, From: w.home.Address(os.Getenv(envAgent)),
			Conversation: os.Getenv(envConversation), Content: token,
		}
		err = tx.Add(e)
		seq = e.Seq
		return err
	})
	return seq, err
}
