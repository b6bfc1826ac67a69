package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

// body is the text of a message, as the command line tells it.
type body struct{ file string }

func (b *body) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.file, "body-file", "", "read the text from a file, - for standard input")
}

// split takes the text from the end of the arguments: count arguments come before
// it, or at least one where count is negative.
func (b *body) split(cmd *cobra.Command, args []string, count int) (before []string, text string, err error) {
	words := len(args)
	if b.file == "" {
		words--
	}
	switch {
	case count >= 0 && words > count:
		return nil, "", tooManyWords(cmd, args, count, b.file != "")
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

func tooManyWords(cmd *cobra.Command, args []string, count int, inFile bool) error {
	if inFile {
		return usage(cmd.CommandPath()+" --help", "the text is in --body-file, so it cannot be an argument too")
	}
	words := args[count:]
	if last := words[len(words)-1]; len(words) == 2 && isSpan(last) && cmd.Flags().Changed("wait") {
		next := cmd.CommandPath() + " " + shellLine(args[:count+1]...) + " --wait=" + last
		return usage(next, "write --wait=%s, with an equals sign", last)
	}
	line := append(append([]string{}, args[:count]...), strings.Join(words, " "))
	return usage(cmd.CommandPath()+" "+shellLine(line...), "%s takes one text, got %d words: put it in quotes", cmd.CommandPath(), len(words))
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
		return "", fmt.Errorf("read text: %w", err)
	}
	return string(data), nil
}

func checkBody(cmd *cobra.Command, text string) error {
	switch {
	case !utf8.ValidString(text):
		return usage(cmd.CommandPath()+" --help", "the text is not UTF-8")
	case strings.TrimSpace(text) == "":
		return usage(cmd.CommandPath()+" --help", "the text is empty")
	case len(text) > envelope.MaxContent:
		return api.Errorf(api.TooLarge, "the text is over the limit of %d bytes", envelope.MaxContent).
			WithNext("%s \"The text is in the file <path>.\"", cmd.CommandPath())
	}
	return nil
}
