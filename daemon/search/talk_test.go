package search_test

import (
	"os"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// TestCountedAgain: where a log is gone, the hours are counted again in which it had
// messages, and no others.
func TestCountedAgain(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	gone, stays := c.create("Gone", false, "Nova@nyc", "Atlas@nyc"), c.create("Stays", false, "Nova@nyc", "Atlas@nyc")
	c.say(stays, "Nova@nyc", "early")
	c.time += 2 * time.Hour.Milliseconds()
	c.say(gone, "Nova@nyc", "late")
	c.say(stays, "Nova@nyc", "late")
	x := c.run()
	defer x.stop()
	c.exec("UPDATE t SET count = 100 * count")
	if err := os.Remove(c.home.LogPath(gone)); err != nil {
		t.Fatal(err)
	}
	x.Committed(gone, 1)
	x.settle(t)
	talk, err := x.Talk(t.Context(), time.UnixMilli(0), envelope.Address{})
	if err != nil || len(talk.Pairs) != 1 || talk.Pairs[0].Count != 100+1 {
		t.Errorf("talk: got %+v, %v, want 100 of the hour that was not counted again and 1 of the other", talk.Pairs, err)
	}
}
