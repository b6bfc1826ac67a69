package markdown

import (
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// The library takes time that grows with the square of some things, of which a text may
// therefore have only so many. What is beyond is text as it stands.
const (
	maxMarkdown   = 64 << 10 // bytes of a text
	maxNested     = 50       // quotes and lists in each other
	maxDelimiters = 1000     // of emphasis in a paragraph
	maxLinkBytes  = 16 << 20 // looked at for the destinations of links
	maxCells      = 20_000   // of a table: its head says how many each of its lines has
)

// shallow opens quotes and lists up to a depth.
type shallow struct{ parser.BlockParser }

// Open begins a block; the library calls it.
func (s shallow) Open(parent ast.Node, reader text.Reader, pc parser.Context) (ast.Node, parser.State) {
	depth := 0
	for n := parent; n != nil; n = n.Parent() {
		depth++
	}
	if depth > maxNested {
		return nil, parser.NoChildren
	}
	return s.BlockParser.Open(parent, reader, pc)
}

var (
	delimitersKey = parser.NewContextKey()
	linkBytesKey  = parser.NewContextKey()
)

// delimiters is how many a paragraph has had so far.
type delimiters struct {
	in    ast.Node
	count int
}

// fewDelimiters parses emphasis up to so many marks in a paragraph.
type fewDelimiters struct{ parser.InlineParser }

// Parse reads marks; the library calls it.
func (f fewDelimiters) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	d := pc.ComputeIfAbsent(delimitersKey, func() any { return new(delimiters) }).(*delimiters)
	if d.in != parent {
		*d = delimiters{in: parent}
	}
	if d.count++; d.count > maxDelimiters {
		return nil
	}
	return f.InlineParser.Parse(parent, block, pc)
}

// fewLinks parses links as long as not too much is looked at for where they lead.
type fewLinks struct{ parser.InlineParser }

// Parse reads a bracket; the library calls it.
func (f fewLinks) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	if line, _ := block.PeekLine(); len(line) > 1 && line[0] == ']' {
		looked := pc.ComputeIfAbsent(linkBytesKey, func() any { return new(int) }).(*int)
		if *looked += len(line); *looked > maxLinkBytes {
			return nil
		}
	}
	return f.InlineParser.Parse(parent, block, pc)
}

// CloseBlock ends a paragraph; the library calls it.
func (f fewLinks) CloseBlock(parent ast.Node, block text.Reader, pc parser.Context) {
	if closer, ok := f.InlineParser.(parser.CloseBlocker); ok {
		closer.CloseBlock(parent, block, pc)
	}
}
