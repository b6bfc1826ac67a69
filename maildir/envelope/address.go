package envelope

import (
	"fmt"
	"strings"
)

// Address names an agent: Name, or Name@host.
type Address struct {
	Name string
	Host string // empty when the writer named none
}

// ParseAddress reads "Name" or "Name@host".
func ParseAddress(s string) (Address, error) {
	name, host, at := strings.Cut(s, "@")
	if err := CheckName(name); err != nil {
		return Address{}, err
	}
	if at {
		if err := CheckHost(host); err != nil {
			return Address{}, err
		}
	}
	return Address{Name: name, Host: host}, nil
}

// String returns the address as it is written.
func (a Address) String() string {
	if a.Host == "" {
		return a.Name
	}
	return a.Name + "@" + a.Host
}

// IsZero reports whether the address names nobody.
func (a Address) IsZero() bool { return a == Address{} }

// Key is the address in lower case. Two addresses with the same key are the same agent.
func (a Address) Key() string { return strings.ToLower(a.String()) }

// Same reports whether both name the same agent.
func (a Address) Same(b Address) bool {
	return strings.EqualFold(a.Name, b.Name) && strings.EqualFold(a.Host, b.Host)
}

// CheckName reports what is wrong with an agent's name: it has 1 to 32 of
// A–Z a–z 0–9 _ - and begins with a letter.
func CheckName(name string) error {
	if name == "" || len(name) > 32 {
		return fmt.Errorf("agent name %q: want 1 to 32 characters", clip(name))
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '_' || c == '-')) {
			return fmt.Errorf("agent name %q: want letters, digits, _ and -, beginning with a letter", name)
		}
	}
	return nil
}

// CheckHost reports what is wrong with a host's name: it has 1 to 63 of
// a–z 0–9 - and neither begins nor ends with a hyphen.
func CheckHost(host string) error {
	if host == "" || len(host) > 63 {
		return fmt.Errorf("host name %q: want 1 to 63 characters", clip(host))
	}
	for i, c := range []byte(host) {
		inner := i > 0 && i < len(host)-1
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && inner) {
			return fmt.Errorf("host name %q: want a–z, 0–9 and inner hyphens", host)
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAddress; an empty text is the zero address.
func (a *Address) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	*a, err = ParseAddress(string(text))
	return err
}
