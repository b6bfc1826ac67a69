package search

import "time"

// Times changes how long an index waits after an error, answers a question, and keeps a
// connection open that nobody uses.
func (x *Index) Times(retry, within, unused time.Duration) {
	x.retry, x.within, x.unused = retry, within, unused
}

// Lull changes how long an index rests while lines come and nobody asks.
func (x *Index) Lull(d time.Duration) { x.lull = d }

// Words are the words of a text as they are compared.
func Words(text string) (list []string) {
	for _, w := range wordsOf(text) {
		list = append(list, w.text)
	}
	return list
}
