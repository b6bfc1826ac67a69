package envelope_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

// vectors returns the files of a folder of testdata by their name without ".json".
func vectors(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("vectors in %q: got %d files, %v", folder, len(paths), err)
	}
	files := make(map[string][]byte)
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ".json")] = readFile(t, path)
	}
	return files
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGoodVectors(t *testing.T) {
	for name, data := range vectors(t, "good") {
		t.Run(name, func(t *testing.T) {
			want := readFile(t, filepath.Join("testdata", "good", name+".want"))
			e, err := envelope.Decode(data)
			if err != nil {
				t.Fatalf("Decode: got %v, want no error", err)
			}
			if err := e.Check(envelope.MaxContent); err != nil {
				t.Errorf("Check: got %v, want no error", err)
			}
			if got := append(e.Append(nil), '\n'); !bytes.Equal(got, want) {
				t.Errorf("written back:\n got %s\nwant %s", got, want)
			}
			again, err := envelope.Decode(want)
			if err != nil {
				t.Fatalf("Decode what was written: got %v, want no error", err)
			}
			if diff := cmp.Diff(e, again); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadVectors(t *testing.T) {
	for name, data := range vectors(t, "bad") {
		t.Run(name, func(t *testing.T) {
			e, err := envelope.Decode(data)
			if err == nil {
				err = e.Check(envelope.MaxContent)
			}
			if !errors.Is(err, envelope.ErrInvalid) {
				t.Errorf("got error %v, want ErrInvalid", err)
			}
		})
	}
}

func TestEveryWantHasItsVector(t *testing.T) {
	wants, err := filepath.Glob(filepath.Join("testdata", "good", "*.want"))
	if err != nil {
		t.Fatal(err)
	}
	good := vectors(t, "good")
	for _, want := range wants {
		name := strings.TrimSuffix(filepath.Base(want), ".want")
		if _, ok := good[name]; !ok {
			t.Errorf("%q belongs to no .json file", want)
		}
	}
}
