package httpd_test

import (
	"flag"
	"os"
	"testing"

	"github.com/claude-duo/duo/daemon/httpd"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/openapi.yaml anew")

// TestDescriptionIsCurrent: docs/openapi.yaml, which is served, describes the routes of
// this program.
func TestDescriptionIsCurrent(t *testing.T) {
	const path = "../../docs/openapi.yaml"
	want, err := httpd.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/openapi.yaml is not current: go test ./daemon/httpd -run TestDescriptionIsCurrent -update (-want +got):\n%.3000s", diff)
	}
}
