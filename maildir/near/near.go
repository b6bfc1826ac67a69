// Package near finds the names that somebody may have meant who mistyped one.
package near

import (
	"cmp"
	"slices"
	"strings"
)

const most = 3

// Names returns at most three of the names that are like text, the most alike first.
// Letter case does not count.
func Names(text string, names []string) []string {
	type match struct {
		name string
		far  int
	}
	text = strings.ToLower(text)
	var matches []match
	for _, name := range names {
		key := strings.ToLower(name)
		far := distance(text, key)
		if text != "" && (strings.HasPrefix(key, text) || strings.HasPrefix(text, key)) {
			far = min(far, 1)
		}
		if far <= max(1, min(len(text), len(key))/3) && far < len(key) {
			matches = append(matches, match{name, far})
		}
	}
	apart := func(m match) int { return max(len(m.name)-len(text), len(text)-len(m.name)) }
	slices.SortStableFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(apart(a), apart(b)))
	})
	var list []string
	for _, m := range matches[:min(len(matches), most)] {
		list = append(list, m.name)
	}
	return list
}

// distance is how many letters have to be put in, taken out, changed, or swapped with
// their neighbour (the optimal string alignment distance).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
