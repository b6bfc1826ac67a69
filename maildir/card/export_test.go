package card

// Encode is the file that Write writes.
func Encode(c Card) ([]byte, error) { return c.encode() }
