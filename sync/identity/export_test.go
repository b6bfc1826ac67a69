package identity

// WithSecret is a code with another secret, of ten characters.
func WithSecret(c Code, secret string) Code {
	copy(c.secret[:], secret)
	return c
}

// DecodeCode reads what a checksum guards.
var DecodeCode = decodeCode

// Hear reads what the other side of a pairing says.
var Hear = hear
