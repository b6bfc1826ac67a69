package metrics

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Parse reads what Write has written, and is strict about it: each metric has its help,
// its type and its samples in one piece, no sample comes twice, and histograms add up.
// It returns the samples by their names and labels as they stand there.
func Parse(page string) (map[string]float64, error) {
	p := parser{samples: make(map[string]float64), seen: make(map[string]bool)}
	if page != "" && !strings.HasSuffix(page, "\n") {
		return nil, fmt.Errorf("the last line has no end")
	}
	for i, line := range strings.Split(strings.TrimSuffix(page, "\n"), "\n") {
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return p.samples, p.endSpread()
}

type parser struct {
	samples map[string]float64
	seen    map[string]bool // names of metrics
	helped  string          // the metric whose help came last
	name    string          // the metric whose type came last
	kind    string
	spread  string // labels of the histogram under way
	open    bool   // it has no _count yet
	last    float64
	inf     bool
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)`)
)

func (p *parser) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
		p.helped, _, _ = strings.Cut(rest, " ")
		return nil
	}
	if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
		return p.begin(rest)
	}
	end := strings.LastIndexByte(line, ' ')
	if end < 0 {
		return fmt.Errorf("%q is no sample", line)
	}
	value, err := strconv.ParseFloat(line[end+1:], 64)
	if err != nil {
		return fmt.Errorf("sample %q: %w", line, err)
	}
	return p.sample(line[:end], value)
}

func (p *parser) begin(rest string) error {
	if err := p.endSpread(); err != nil {
		return err
	}
	name, kind, _ := strings.Cut(rest, " ")
	switch {
	case !metricName.MatchString(name):
		return fmt.Errorf("%q is no name", name)
	case name != p.helped:
		return fmt.Errorf("%s has no help", name)
	case p.seen[name]:
		return fmt.Errorf("%s comes twice", name)
	case kind == "counter" && !strings.HasSuffix(name, "_total"):
		return fmt.Errorf("counter %s has no name of one", name)
	case kind != "counter" && kind != "gauge" && kind != "histogram":
		return fmt.Errorf("%s has the type %q", name, kind)
	}
	p.seen[name], p.name, p.kind = true, name, kind
	return nil
}

func (p *parser) sample(key string, value float64) error {
	if _, ok := p.samples[key]; ok {
		return fmt.Errorf("%s comes twice", key)
	}
	p.samples[key] = value
	name, rest, labelled := strings.Cut(key, "{")
	labels := map[string]string{}
	if labelled {
		rest, ok := strings.CutSuffix(rest, "}")
		if !ok {
			return fmt.Errorf("%s has labels without an end", key)
		}
		for rest != "" {
			m := labelPair.FindStringSubmatch(rest)
			if m == nil {
				return fmt.Errorf("%s: %q are no labels", key, rest)
			}
			labels[m[1]] = m[2]
			rest = rest[len(m[0]):]
		}
	}
	if p.kind == "histogram" {
		return p.part(strings.TrimPrefix(name, p.name), key, labels, value)
	}
	if name != p.name {
		return fmt.Errorf("%s stands among %q", key, p.name)
	}
	if p.kind == "counter" && value < 0 {
		return fmt.Errorf("counter %s is negative", key)
	}
	return nil
}

// part takes a line of a histogram: its buckets, then _sum, then _count.
func (p *parser) part(part, key string, labels map[string]string, value float64) error {
	le, bucket := labels["le"]
	delete(labels, "le")
	var of bytes.Buffer
	fmt.Fprint(&of, labels)
	if !p.open {
		p.open, p.spread, p.last, p.inf = true, of.String(), 0, false
	}
	switch {
	case of.String() != p.spread:
		return fmt.Errorf("%s stands in the middle of another histogram", key)
	case part == "_bucket" && bucket && value >= p.last && !p.inf:
		p.last, p.inf = value, le == "+Inf"
	case part == "_sum" && p.inf:
	case part == "_count" && p.inf && value == p.last:
		p.open = false
	default:
		return fmt.Errorf("%s does not fit", key)
	}
	return nil
}

func (p *parser) endSpread() error {
	if p.open {
		return fmt.Errorf("histogram %s has no end", p.name)
	}
	return nil
}
