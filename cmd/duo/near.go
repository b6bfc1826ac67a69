package main

import (
	"slices"
	"strings"
)

const maxNear = 3

// nearest returns the words most like a mistyped one, the best first.
func nearest(word string, words []string) []string {
	type match struct {
		word string
		far  int
	}
	var matches []match
	for _, w := range words {
		far := distance(strings.ToLower(word), strings.ToLower(w))
		if strings.HasPrefix(strings.ToLower(w), strings.ToLower(word)) && len(word) > 1 {
			far = min(far, 1)
		}
		if far <= max(1, min(len(word), len(w))/3+1) && far < len(w) {
			matches = append(matches, match{w, far})
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int { return a.far - b.far })
	var near []string
	for _, m := range matches[:min(len(matches), maxNear)] {
		near = append(near, m.word)
	}
	return near
}

// distance counts the letters to change, add, drop or swap that make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
