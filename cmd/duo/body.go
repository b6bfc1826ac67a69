package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

// body is the text of a message, as the command line tells it.
type body struct {
	app    *app
	file   string
	attach []string // files
}

func (b *body) addFlags(a *app, cmd *cobra.Command) {
	b.app = a
	cmd.Flags().StringVar(&b.file, "body-file", "", "read the text from a file, - for standard input")
}

// split takes the text from the end of the arguments: count arguments come before
// it, or at least one where count is negative.
func (b *body) split(cmd *cobra.Command, args []string, count int) (before []string, text string, err error) {
	if err := b.app.checkWait(cmd); err != nil {
		return nil, "", err
	}
	words := len(args)
	if b.file == "" {
		words--
	}
	switch {
	case count >= 0 && words > count && b.file != "":
		return nil, "", usage(cmd.CommandPath()+" --help", "the text is in --body-file, so it cannot be an argument too")
	case count >= 0 && words > count:
		return nil, "", b.app.unquotedText(cmd, args[count:])
	case words < count, count < 0 && words < 1:
		return nil, "", usage(cmd.CommandPath()+" --help", "%s needs more arguments: %s", cmd.CommandPath(), cmd.UseLine())
	case b.file != "":
		text, err = readBody(cmd, b.file)
	case args[words] == "-":
		text, err = readBody(cmd, "-")
	default:
		text = args[words]
	}
	if err == nil {
		err = checkBody(cmd, text)
	}
	return args[:words], text, err
}

// optional is split for commands whose text may be missing.
func (b *body) optional(cmd *cobra.Command, args []string, count int) (before []string, text string, err error) {
	if b.file == "" && len(args) <= count {
		return args, "", nil
	}
	return b.split(cmd, args, count)
}

// unquotedText is the error where a text came as several words.
func (a *app) unquotedText(cmd *cobra.Command, words []string) *api.Error {
	line := []string{"duo"}
	at := 0
	for _, arg := range a.args {
		switch {
		case at == len(words) || arg != words[at]:
			line = append(line, arg)
		case at == 0:
			line = append(line, strings.Join(words, " "))
			at++
		default:
			at++
		}
	}
	return usage(shellLine(line...), "%s takes one text, got %d words: put it in quotes", cmd.CommandPath(), len(words))
}

// checkWait recognises --wait 30s, which cannot be told from --wait and a text.
func (a *app) checkWait(cmd *cobra.Command) error {
	i := slices.Index(a.args, "--wait")
	if i < 0 || i+1 == len(a.args) || cmd.Flags().Lookup("wait") == nil || !isSpan(a.args[i+1]) {
		return nil
	}
	length := a.args[i+1]
	line := slices.Concat([]string{"duo"}, a.args[:i], []string{"--wait=" + length}, a.args[i+2:])
	return usage(shellLine(line...), "write --wait=%s, with an equals sign", length)
}

func isSpan(s string) bool {
	_, err := time.ParseDuration(s)
	return err == nil
}

// readBody reads a text from a file or from standard input, whole.
func readBody(cmd *cobra.Command, path string) (string, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usage("ls -l "+shellQuote(path), "read --body-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, envelope.MaxContent+1))
	if err != nil {
		return "", usage("ls -l "+shellQuote(path), "read the text: %w", err)
	}
	return string(data), nil
}

func checkBody(cmd *cobra.Command, text string) error {
	switch {
	case len(text) > envelope.MaxContent: // first, as it may have been cut in the middle of a letter
		return api.Errorf(api.TooLarge, "the text is over the limit of %d bytes: put it into a file and say where that is", envelope.MaxContent)
	case !utf8.ValidString(text):
		return usage(cmd.CommandPath()+" --help", "the text is not UTF-8")
	case strings.TrimSpace(text) == "":
		return usage(cmd.CommandPath()+" --help", "the text is empty")
	}
	return nil
}
