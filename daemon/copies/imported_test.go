package copies_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
)

// TestImportedCopiesTakeNoPlace: copies that were imported, in which nobody of this host is,
// are not counted as what their origin has begun here: it can begin others.
func TestImportedCopiesTakeNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		lon.restart(func() {
			for i := range 80 { // of which 64 would be too many
				id := nyc.create(fmt.Sprint(i), nyc.address("Atlas"), nyc.address("Ada"))
				if err := lon.home.NoteImported([]maildir.Imported{{Conversation: id, Through: 1}}); err != nil {
					t.Fatal(err)
				}
				if err := convlog.CreateCopy(lon.home.LogPath(id), nyc.lines(id)); err != nil {
					t.Fatal(err)
				}
			}
		})
		connect(t, nyc, lon)
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		nyc.say(id, nyc.address("Atlas"), "hi")
		synctest.Wait()
		lon.wantCopy(nyc, id, 2)
		lon.wantNoProblems(nyc)
	})
}
