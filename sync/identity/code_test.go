package identity_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/sync/identity"
)

func codeFor(t testing.TB, h *identity.Host, address string) identity.Code {
	t.Helper()
	c, err := identity.NewOffers(nil).Open(h, address, life)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCodeIsReadAsTyped(t *testing.T) {
	nyc := newHost(t, "nyc")
	for _, address := range []string{"192.0.2.7:7601", "[2001:db8::1]:1", "Nyc-1.example.org:65535", "x:7601"} {
		code := codeFor(t, nyc, address)
		text := code.String()
		for name, typed := range map[string]string{
			"as printed":  text,
			"small":       strings.ToLower(text),
			"run on":      "duo1" + strings.ReplaceAll(text[5:], "-", ""),
			"with spaces": "  " + strings.ReplaceAll(text, "-", " ") + "\n",
			"o for zero":  strings.ReplaceAll(text, "0", "o"),
			"l for one":   strings.ReplaceAll(text, "1", "l"),
		} {
			got, err := identity.ParseCode(typed)
			if err != nil || got != code {
				t.Errorf("%s: %q: got %+v, %v", name, typed, got, err)
			}
		}
		if code.Address != address {
			t.Errorf("got address %q, want %q", code.Address, address)
		}
		if left := time.Until(code.Ends); left > life || left < life-2*time.Minute {
			t.Errorf("the code says that it ends in %v, want %v", left, life)
		}
	}
}

func TestCodeHasItsMistakesSeen(t *testing.T) {
	text := codeFor(t, newHost(t, "nyc"), "192.0.2.7:7601").String()
	plain := strings.ReplaceAll(text[5:], "-", "")
	refuse := func(name, typed string) {
		t.Helper()
		if _, err := identity.ParseCode("duo1-" + typed); !errors.Is(err, identity.ErrBadCode) {
			t.Errorf("%s: %q: got %v, want %v", name, typed, err, identity.ErrBadCode)
		}
	}
	for i := range plain {
		for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ*U" {
			if byte(c) != plain[i] {
				refuse("one other character", plain[:i]+string(c)+plain[i+1:])
			}
		}
		refuse("one left out", plain[:i]+plain[i+1:])
		if i > 0 && plain[i] != plain[i-1] {
			refuse("two swapped", plain[:i-1]+string(plain[i])+string(plain[i-1])+plain[i+1:])
		}
	}
	refuse("nothing", "")
	refuse("twice", plain+plain)
	refuse("too long", strings.Repeat(plain, 30))
	if _, err := identity.ParseCode(plain); !errors.Is(err, identity.ErrBadCode) {
		t.Errorf("no beginning: got %v, want %v", err, identity.ErrBadCode)
	}
}

func TestAddressesThatNoCodeHas(t *testing.T) {
	nyc := newHost(t, "nyc")
	for _, address := range []string{
		"", "nyc", ":7601", "nyc:", "nyc:0", "nyc:65536", "nyc:http", "n yc:1", "[fe80::1%eth0]:1", strings.Repeat("x", 254) + ":1", "a/b:1",
	} {
		if c, err := identity.NewOffers(nil).Open(nyc, address, life); err == nil {
			t.Errorf("%q: got a code for %q", address, c.Address)
		}
	}
}

func FuzzCode(f *testing.F) {
	nyc := newHost(f, "nyc")
	for _, address := range []string{"192.0.2.7:7601", "[2001:db8::1]:1", "nyc.example.org:7601"} {
		f.Add(codeFor(f, nyc, address).String())
	}
	f.Add("duo1-")
	f.Fuzz(func(t *testing.T, text string) {
		code, err := identity.ParseCode(text)
		if err != nil {
			return
		}
		again, err := identity.ParseCode(code.String())
		if err != nil || again != code {
			t.Errorf("%q: printed and read again it is %+v, %v, want %+v", text, again, err, code)
		}
	})
}

// FuzzCodeBody gives every body a good checksum, so that what is behind it is reached.
func FuzzCodeBody(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Add(append(make([]byte, 31), 4, 127, 0, 0, 1, 1, 1))
	f.Fuzz(func(t *testing.T, body []byte) {
		code, err := identity.DecodeCode(body)
		if err != nil {
			return
		}
		again, err := identity.ParseCode(code.String())
		if err != nil || again != code {
			t.Errorf("%x: printed and read again it is %+v, %v, want %+v", body, again, err, code)
		}
	})
}
