package frame_test

import (
	"os/exec"
	"testing"

	"github.com/claude-duo/duo/daemon/frame"
)

func TestShellWordIsReadBackByAShell(t *testing.T) {
	for _, word := range []string{
		"plain", "two words", `a "quoted" word`, "it's", "$HOME", "`id`", `back\slash`, "new\nline", "!history", "", "a;b|c&d", "*", "~", "#x", "a=b",
	} {
		out, err := exec.Command("sh", "-c", "printf %s "+frame.ShellWord(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("frame.ShellWord(%q) = %s, which a shell reads as %q (%v)", word, frame.ShellWord(word), out, err)
		}
	}
}
