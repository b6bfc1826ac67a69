package maildir_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/maildir"
	"pgregory.net/rapid"
)

func TestShort(t *testing.T) {
	const (
		alone  = "00000000-0000-8000-8000-00000000beef"
		like1  = "00000000-0000-8000-8000-0000000a9f3a"
		like2  = "00000000-0000-8000-8000-0000000b9f3a"
		almost = "10000000-0000-8000-8000-0000000b9f3a"
	)
	refs := maildir.NewRefs([]string{alone, like1})
	wantShort(t, refs, alone, "cbeef")
	wantShort(t, refs, like1, "c9f3a")
	refs.Add(like2)
	wantShort(t, refs, alone, "cbeef")
	wantShort(t, refs, like1, "ca9f3a")
	wantShort(t, refs, like2, "cb9f3a")
	if got, want := refs.Resolve("c9f3a"), []string{like1, like2}; !slices.Equal(got, want) {
		t.Errorf("Resolve of what both have: got %q, want %q", got, want)
	}
	refs.Add(almost)
	wantShort(t, refs, like2, "c00000000000080008000000000"+"0b9f3a")
	wantShort(t, refs, almost, "c10000000000080008000000000"+"0b9f3a")
}

func wantShort(t *testing.T, refs *maildir.Refs, id, want string) {
	t.Helper()
	if got := refs.Short(id); got != want {
		t.Errorf("Short(%s): got %q, want %q", id, got, want)
	}
	if got := refs.Resolve(want); !slices.Equal(got, []string{id}) {
		t.Errorf("Resolve(%q): got %q, want exactly %q", want, got, id)
	}
}

func TestResolve(t *testing.T) {
	refs := maildir.NewRefs([]string{id1, id2})
	for _, text := range []string{id1, strings.ToUpper(id1), "c9f3a", "C9F3A", "c829f3a", "c" + strings.ReplaceAll(id1, "-", "")} {
		if got := refs.Resolve(text); !slices.Equal(got, []string{id1}) {
			t.Errorf("Resolve(%q): got %q, want %q", text, got, id1)
		}
	}
	for _, text := range []string{
		"", "c", "c3a", "cf3a", "9f3a", "r9f3a", "cxyzw", "c9f3b", "c-9f3a", "c82-9f3a", " c9f3a", "c9f3a ", "c9f3a.1", "c0" + strings.ReplaceAll(id1, "-", ""),
		"00000000-0000-0000-0000-000000000000", strings.ReplaceAll(id1, "-", ""), "{" + id1 + "}",
		strings.Repeat("-", 36), strings.Repeat("-", 32) + "9f3a", id1[:35] + "-", "c" + id1[1:35] + "x",
	} {
		if got := refs.Resolve(text); len(got) > 0 {
			t.Errorf("Resolve(%q): got %q, want nothing", text, got)
		}
	}
}

func TestRefsHoldEachIdOnce(t *testing.T) {
	refs := maildir.NewRefs([]string{id1, id2, id1})
	refs.Add(id1)
	refs.Add(id2)
	if got := refs.Len(); got != 2 {
		t.Errorf("Len: got %d, want 2", got)
	}
	got := refs.All()
	slices.Sort(got)
	if want := []string{id1, id2}; !slices.Equal(got, want) {
		t.Errorf("All: got %q, want %q", got, want)
	}
	wantShort(t, refs, id1, "c9f3a")
	if got := maildir.NewRefs(nil); got.Len() != 0 || got.Resolve("c9f3a") != nil || got.Short(id1) != "c9f3a" {
		t.Errorf("empty Refs: got %d ids, want none", got.Len())
	}
}

// ids are drawn with few different digits, so that many have long endings in common.
func drawIDs(t *rapid.T) []string {
	digit := rapid.SampledFrom([]byte("0001f"))
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string {
		tail := rapid.SliceOfN(digit, 0, 12).Draw(t, "tail")
		hex := []byte(strings.Repeat("0", 32-len(tail)) + string(tail))
		hex[rapid.IntRange(0, 31).Draw(t, "at")] = digit.Draw(t, "other")
		return string(hex[:8]) + "-" + string(hex[8:12]) + "-" + string(hex[12:16]) + "-" + string(hex[16:20]) + "-" + string(hex[20:])
	}), 1, 30, rapid.ID[string]).Draw(t, "ids")
}

// A short reference means exactly its id, and no shorter one would do.
func TestShortResolvesToItsIdAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := drawIDs(t)
		known := rapid.IntRange(0, len(ids)).Draw(t, "known")
		refs := maildir.NewRefs(ids[:known])
		for _, id := range ids[known:] {
			refs.Add(id)
		}
		for _, id := range ids {
			short := refs.Short(id)
			for _, text := range []string{short, strings.ToUpper(short), id, strings.ToUpper(id)} {
				if got := refs.Resolve(text); !slices.Equal(got, []string{id}) {
					t.Fatalf("Resolve(%q): got %q, want exactly %q", text, got, id)
				}
			}
			if len(short) < 5 {
				t.Fatalf("Short(%q): got %q, want four digits at least", id, short)
			}
			if len(short) > 5 && len(refs.Resolve("c"+short[2:])) < 2 {
				t.Fatalf("Short(%q): got %q, want one digit less, which is enough", id, short)
			}
		}
	})
}

// Resolve returns every id with the ending, found here without a search.
func TestResolveFindsEveryEnding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := drawIDs(t)
		refs := maildir.NewRefs(ids)
		of := rapid.SampledFrom(ids).Draw(t, "of")
		digits := strings.ReplaceAll(of, "-", "")[32-rapid.IntRange(4, 32).Draw(t, "digits"):]
		var want []string
		for _, id := range ids {
			if strings.HasSuffix(strings.ReplaceAll(id, "-", ""), digits) {
				want = append(want, id)
			}
		}
		got := refs.Resolve("c" + digits)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("Resolve(%q): got %q, want %q", "c"+digits, got, want)
		}
	})
}

func TestRefsByManyGoroutines(t *testing.T) {
	refs := maildir.NewRefs(nil)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 64 {
				id := "00000000-0000-8000-8000-0000000" + string("01234567"[i]) + string("01234567"[j/8]) + string("01234567"[j%8]) + "ee"
				refs.Add(id)
				if got := refs.Resolve(refs.Short(id)); !slices.Contains(got, id) {
					t.Errorf("Resolve(Short(%q)): got %q, want it", id, got)
				}
			}
		})
	}
	group.Wait()
	if got := refs.Len(); got != 8*64 {
		t.Errorf("Len: got %d, want %d", got, 8*64)
	}
}

func TestSplitRef(t *testing.T) {
	for text, want := range map[string]struct {
		conversation string
		seq          int64
	}{
		"c9f3a": {"c9f3a", 0}, "c9f3a.42": {"c9f3a", 42}, id1: {id1, 0}, id1 + ".1": {id1, 1},
		"c9f3a.9223372036854775807": {"c9f3a", 1<<63 - 1}, "": {"", 0},
	} {
		if conversation, seq, ok := maildir.SplitRef(text); !ok || conversation != want.conversation || seq != want.seq {
			t.Errorf("SplitRef(%q): got %q, %d, %v, want %q, %d", text, conversation, seq, ok, want.conversation, want.seq)
		}
	}
	for _, text := range []string{"c9f3a.", "c9f3a.0", "c9f3a.-1", "c9f3a.x", "c9f3a.1.2", "c9f3a.1 ", "c9f3a.0x1", "c9f3a.9223372036854775808", "."} {
		if conversation, seq, ok := maildir.SplitRef(text); ok {
			t.Errorf("SplitRef(%q): got %q, %d, want that it is refused", text, conversation, seq)
		}
	}
}

func TestRefsForget(t *testing.T) {
	refs := maildir.NewRefs([]string{id1, id2})
	refs.Remove(id1)
	refs.Remove(id1)
	if refs.Len() != 1 || len(refs.Resolve(id1)) != 0 || len(refs.Resolve(id2)) != 1 {
		t.Errorf("got %q, want %q alone", refs.All(), id2)
	}
}
