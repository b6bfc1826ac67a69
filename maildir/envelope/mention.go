package envelope

import "strings"

// IsCalled reports whether a text is the agent's address, or its name alone: names are
// those of its own host.
func (a Address) IsCalled(text string) bool {
	b, err := ParseAddress(text)
	if err == nil && b.Host == "" {
		b.Host = a.Host
	}
	return err == nil && b.Same(a)
}

// IsMentioned reports whether a text calls the agent by its name or address, as in "@Nova"
// or "@Nova@nyc".
func (a Address) IsMentioned(text string) bool {
	for i := 0; i < len(text); {
		at := strings.IndexByte(text[i:], '@')
		if at < 0 {
			return false
		}
		at += i
		i = at + 1
		end := i
		for end < len(text) && isName(text[end]) {
			end++
		}
		if at > 0 && isName(text[at-1]) || !strings.EqualFold(text[i:end], a.Name) { // of an address of mail, or of a host
			continue
		}
		if end == len(text) || text[end] != '@' {
			return true
		}
		host := end + 1
		for host < len(text) && isName(text[host]) {
			host++
		}
		if strings.EqualFold(text[end+1:host], a.Host) {
			return true
		}
	}
	return false
}

// isName reports whether a byte can be part of a name.
func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
