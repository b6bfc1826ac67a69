package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	codePrefix = "duo1-"
	codeForm   = 1
	groupSize  = 4
	checkSize  = 3
	maxCode    = 1000 // characters, hyphens and spaces among them
	maxMachine = 253  // characters of a machine's name
)

// The kinds of addresses in a code.
const (
	byName = 0
	byIPv4 = 4
	byIPv6 = 6
)

// ErrBadCode means that a text is not a pairing code, or has a mistake in it.
var ErrBadCode = errors.New("not a pairing code")

// alphabet is Crockford's base32: no letter looks like a digit or makes words.
var alphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// mistypes are how people write what stands in a code.
var mistypes = strings.NewReplacer("-", "", " ", "", "\t", "", "\n", "", "\r", "", "O", "0", "I", "1", "L", "1")

// Code is what one host prints so that another one finds it and proves that a person
// wanted so. It is a secret.
type Code struct {
	Address string    // host:port of the host that has printed it
	Ends    time.Time // to be shown only, in whole minutes: the host that has printed it decides

	fingerprint [16]byte
	secret      [10]byte
}

func newCode(address string, key ed25519.PublicKey, ends time.Time) (Code, error) {
	c := Code{Address: address, Ends: ends.Truncate(time.Minute).UTC(), fingerprint: fingerprint(key)}
	if _, err := rand.Read(c.secret[:]); err != nil {
		return Code{}, fmt.Errorf("make pairing code: %w", err)
	}
	if _, err := appendAddress(nil, address); err != nil {
		return Code{}, err
	}
	return c, nil
}

// ParseCode reads a code as a person has typed it.
func ParseCode(text string) (Code, error) {
	if len(text) > maxCode {
		return Code{}, fmt.Errorf("%w: longer than %d characters", ErrBadCode, maxCode)
	}
	plain := mistypes.Replace(strings.ToUpper(text))
	plain, ok := strings.CutPrefix(plain, mistypes.Replace(strings.ToUpper(codePrefix)))
	if !ok {
		return Code{}, fmt.Errorf("%w: it begins with %q", ErrBadCode, codePrefix)
	}
	data, err := alphabet.DecodeString(plain)
	if err != nil {
		return Code{}, fmt.Errorf("%w: it has characters that no code has, or too few", ErrBadCode)
	}
	if alphabet.EncodeToString(data) != plain || len(data) < checkSize {
		return Code{}, fmt.Errorf("%w: a part is missing", ErrBadCode)
	}
	body, check := data[:len(data)-checkSize], data[len(data)-checkSize:]
	if subtle.ConstantTimeCompare(check, checksum(body)) != 1 {
		return Code{}, fmt.Errorf("%w: it is incomplete or mistyped", ErrBadCode)
	}
	return decodeCode(body)
}

func decodeCode(body []byte) (c Code, err error) {
	const fixed = 1 + 4 + len(c.fingerprint) + len(c.secret)
	if len(body) < fixed || body[0] != codeForm {
		return Code{}, fmt.Errorf("%w: its form is not known here; is this duo too old?", ErrBadCode)
	}
	c.Ends = time.Unix(int64(binary.BigEndian.Uint32(body[1:]))*60, 0).UTC()
	rest := body[5:]
	rest = rest[copy(c.fingerprint[:], rest):]
	rest = rest[copy(c.secret[:], rest):]
	if c.Address, err = decodeAddress(rest); err != nil {
		return Code{}, err
	}
	return c, nil
}

// String is the code as it is printed.
func (c Code) String() string {
	data := []byte{codeForm}
	data = binary.BigEndian.AppendUint32(data, uint32(c.Ends.Unix()/60))
	data = append(data, c.fingerprint[:]...)
	data = append(data, c.secret[:]...)
	data, err := appendAddress(data, c.Address)
	if err != nil {
		return "" // the zero Code
	}
	plain := alphabet.EncodeToString(append(data, checksum(data)...))
	text := strings.Builder{}
	text.WriteString(codePrefix)
	for i := 0; i < len(plain); i += groupSize {
		if i > 0 {
			text.WriteByte('-')
		}
		text.WriteString(plain[i:min(i+groupSize, len(plain))])
	}
	return text.String()
}

// names reports whether the code is of the host with this key.
func (c Code) names(key ed25519.PublicKey) bool {
	got := fingerprint(key)
	return subtle.ConstantTimeCompare(got[:], c.fingerprint[:]) == 1
}

func fingerprint(key ed25519.PublicKey) (f [16]byte) {
	sum := sha256.Sum256(append([]byte("duo/fingerprint/1"), key...))
	copy(f[:], sum[:])
	return f
}

func checksum(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:checkSize]
}

// appendAddress adds host:port to dst, a number in few bytes.
func appendAddress(dst []byte, address string) ([]byte, error) {
	machine, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("address %q: want a port from 1 to 65535", address)
	}
	ip, err := netip.ParseAddr(machine)
	switch {
	case err == nil && ip.Zone() != "":
		return nil, fmt.Errorf("address %q: a zone means nothing elsewhere", address)
	case err == nil && ip.Unmap().Is4():
		dst = append(append(dst, byIPv4), ip.Unmap().AsSlice()...)
	case err == nil:
		dst = append(append(dst, byIPv6), ip.AsSlice()...)
	case !isMachine(machine):
		return nil, fmt.Errorf("address %q: want a name of letters, digits, dots and hyphens, or a number", address)
	default:
		dst = append(append(dst, byName, byte(len(machine))), machine...)
	}
	return binary.BigEndian.AppendUint16(dst, uint16(port)), nil
}

// decodeAddress reads what appendAddress has written, all of data.
func decodeAddress(data []byte) (string, error) {
	bad := fmt.Errorf("%w: it has no address", ErrBadCode)
	if len(data) < 4 {
		return "", bad
	}
	rest, port := data[:len(data)-2], binary.BigEndian.Uint16(data[len(data)-2:])
	var machine string
	switch kind, value := rest[0], rest[1:]; {
	case kind == byIPv4 && len(value) == 4, kind == byIPv6 && len(value) == 16:
		ip, _ := netip.AddrFromSlice(value)
		if ip.Is4In6() {
			return "", bad
		}
		machine = ip.String()
	case kind == byName && int(value[0]) == len(value)-1 && isMachine(string(value[1:])):
		machine = string(value[1:])
		if _, err := netip.ParseAddr(machine); err == nil {
			return "", bad
		}
	default:
		return "", bad
	}
	if port == 0 {
		return "", bad
	}
	return net.JoinHostPort(machine, strconv.Itoa(int(port))), nil
}

func isMachine(name string) bool {
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' {
			return false
		}
	}
	return name != "" && len(name) <= maxMachine
}
