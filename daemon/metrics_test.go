package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestMetrics has agents talk in every way, and looks whether it was counted.
func TestMetrics(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Echo")
	ctx := context.Background()
	stream, err := h.As("Nova").Stream(ctx, api.StreamRequest{Op: api.OpSubscribe})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	posted := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova", "Echo"}, Content: "hi"})
	for range 2 { // the line that makes the conversation, and the message
		if _, err := stream.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	place := api.Place{Conversation: posted.Conversation.ID, Seq: posted.Message.Envelope.Seq}
	if err := stream.Confirm(place, api.Seen); err != nil {
		t.Fatal(err)
	}
	h.Drop("Atlas", "x.json", `{"to":"Echo","content":"by file"}`)
	log, err := os.OpenFile(h.Home().LogPath(posted.Conversation.ID), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString(`{"from":"Nova","content":"by shell"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.As("Atlas").Post(ctx, &envelope.Envelope{Type: envelope.Message, To: []string{"Nobody"}, Content: "x"}); err == nil {
		t.Fatal("a message to nobody is taken")
	}
	want := map[string]float64{
		`duo_messages_total{door="socket"}`:                                           1,
		`duo_messages_total{door="drop"}`:                                             1,
		`duo_messages_total{door="raw"}`:                                              1,
		`duo_refused_total{door="socket",code="agent_not_found"}`:                     1,
		`duo_http_requests_total{door="socket",route="POST /v1/messages",code="200"}`: 1,
		`duo_http_requests_total{door="socket",route="POST /v1/messages",code="404"}`: 1,
		`duo_delivery_seconds_count{to="stream"}`:                                     2,
		`duo_delivery_seconds_count{to="inbox"}`:                                      4, // two of Atlas for Echo, one of Nova for both
		`duo_streams`:                                                                 1,
		`duo_agents`:                                                                  3,
		`duo_conversations`:                                                           2,
		`duo_conversations_open`:                                                      2,
		`duo_queue_depth{queue="drops"}`:                                              0,
		`duo_watch_polling`:                                                           0,
		`duo_calls`:                                                                   0,
		`duo_watch_failures_total`:                                                    0,
	}
	daemontest.Eventually(t, func() (bool, string) {
		got, _ := scrape(t, h)
		for key, n := range want {
			if got[key] != n {
				return false, fmt.Sprintf("%s: got %v, want %v", key, got[key], n)
			}
		}
		return got["duo_fsync_seconds_count"] >= 1 && got[`duo_watch_hints_total{what="outbox"}`] >= 1, "no sync or no hint"
	})
}

// scrape reads the metrics of a host: the samples, and the names in their order.
func scrape(t *testing.T, h *daemontest.Host) (samples map[string]float64, names []string) {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", h.Home().SocketPath())
	}
	c := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	answer, err := c.Get("http://duo/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("got %s, %v", answer.Status, err)
	}
	samples = make(map[string]float64)
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			names = append(names, name)
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if samples[line[:end]], err = strconv.ParseFloat(line[end+1:], 64); err != nil {
			t.Fatal(err)
		}
	}
	return samples, names
}

// TestMetricsPage compares the metrics with what docs/metrics.md says of them.
func TestMetricsPage(t *testing.T) {
	_, names := scrape(t, daemontest.New(t))
	page, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	slices.Sort(names)
	if !slices.Equal(told, names) {
		t.Errorf("the page tells of %q, the daemon of %q", told, names)
	}
}
