package search

// Words are the words of a text as they are compared.
func Words(text string) (list []string) {
	for _, w := range wordsOf(text) {
		list = append(list, w.text)
	}
	return list
}
