package roster

import (
	"cmp"
	"slices"
	"strings"
)

const maxNear = 3

// Near returns the names that somebody may have meant who wrote text, the most alike
// first.
func Near(text string, names []string) []string {
	type scored struct {
		name     string
		distance int
	}
	text = strings.ToLower(text)
	var list []scored
	for _, name := range names {
		key := strings.ToLower(name)
		d := distance(text, key)
		if strings.HasPrefix(key, text) || strings.HasPrefix(text, key) {
			d = min(d, 1)
		}
		if d <= max(1, len(text)/3) {
			list = append(list, scored{name, d})
		}
	}
	slices.SortStableFunc(list, func(a, b scored) int { return cmp.Compare(a.distance, b.distance) })
	var near []string
	for _, s := range list[:min(len(list), maxNear)] {
		near = append(near, s.name)
	}
	return near
}

// distance is how many letters have to be put in, taken out, changed, or swapped with
// their neighbour.
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
