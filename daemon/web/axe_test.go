package web_test

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"testing"
)

// axe is axe-core 4.14.1, which finds what keeps people from using a page. Its licence is
// the MPL 2.0, in testdata/axe.LICENSE.
//
//go:embed testdata/axe.min.js
var axe string

const axeSum = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

func TestAxeIsAsPublished(t *testing.T) {
	if sum := sha256.Sum256([]byte(axe)); hex.EncodeToString(sum[:]) != axeSum {
		t.Errorf("got axe.min.js with sum %x, want %s", sum, axeSum)
	}
}

type violation struct {
	ID    string
	Help  string
	Nodes []struct {
		HTML           string
		FailureSummary string
	}
}

func (v violation) String() string {
	text := v.ID + ": " + v.Help
	for _, n := range v.Nodes {
		text += "\n" + n.HTML + "\n" + n.FailureSummary
	}
	return text
}

// violations are those of WCAG 2.2 AA and of good practice in what the tab shows.
func (p *tab) violations() []violation {
	p.t.Helper()
	if !eval[bool](p, "!!window.axe") {
		eval[bool](p, axe+"; true")
	}
	return eval[[]violation](p, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({
		id: v.id, help: v.help, nodes: v.nodes.slice(0, 5).map(n => ({html: n.html.slice(0, 300), failureSummary: n.failureSummary}))})))`)
}

// accessible fails the test where something keeps people from using what the tab shows,
// in light or in dark.
func (p *tab) accessible(view string) {
	p.t.Helper()
	for _, l := range []look{desk, night} {
		p.look(l)
		for _, v := range p.violations() {
			p.t.Errorf("%s, %s: %s", view, map[bool]string{false: "light", true: "dark"}[l.dark], v)
		}
	}
	p.look(desk)
}
