package web_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/chromedp/cdproto/page"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

var update = flag.Bool("update", false, "write docs/images anew")

const (
	images       = "../../docs/images"
	maxImageSize = 120 << 10
)

// noon is what the clock of the pages shows in the pictures.
var noon = morning.Add(48 * time.Minute)

// looks are the ways in which each view is shown.
var looks = []struct {
	name string
	look
}{{"light", desk}, {"dark", night}, {"phone", phone}}

// pictures are the views, by the names of their files.
func pictures(o *office, call string) map[string]string {
	return map[string]string{
		"home": "/", "conversation": "/c/" + ref(o.race), "sequence": "/c/" + ref(o.race) + "/sequence", "agent": "/a/Nova",
		"request": "/r/" + call, "search": "/search?q=expire*", "talk": "/talk", "hosts": "/hosts",
	}
}

func ref(conversation string) string { return "c" + conversation[len(conversation)-4:] }

// TestImages takes a picture of each view, in light and dark and on a phone, and with
// -update keeps them for the documentation.
func TestImages(t *testing.T) {
	if testing.Short() && !*update {
		t.Skip("pictures are taken in the long tests")
	}
	b := newBrowser(t)
	o := newOffice(t)
	h := o.start()
	for _, name := range []string{"Atlas", "Nova", "Vega"} {
		listen(t, h, name, api.Seen)
	}
	o.link(h)
	dir := t.TempDir()
	for _, l := range looks {
		began := time.Now()
		called, err := h.As("Vega").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Atlas"}, Topic: "Is 2.4 ready to go out?"})
		if err != nil {
			t.Fatal(err)
		}
		l.still = true // a call that rings moves otherwise
		p := b.newTab(t, origin(t, h), l.look)
		p.stopClock(began)
		p.open("/")
		p.find("heading", "Sign in")
		p.picture(dir, "sign-in", l.name)
		p.open(login(t, h, false))
		p.live()
		views := pictures(o, called.Request.Ref)
		for _, name := range slices.Sorted(maps.Keys(views)) {
			p.open(views[name])
			p.live()
			p.settled()
			p.picture(dir, name, l.name)
		}
		if _, err := h.As("Vega").Answer(context.Background(), &envelope.Envelope{Type: envelope.Cancel, Request: called.Request.ID}); err != nil {
			t.Fatal(err)
		}
	}
}

// stopClock makes the clock of the pages stand at noon, and what has happened since a
// moment before happen about then, so that pictures are the same each time. What went on
// before does so for a quarter of an hour.
func (p *tab) stopClock(began time.Time) {
	p.t.Helper()
	must(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fmt.Sprintf(`{
		const noon = %d, began = %d
		globalThis.Date = class extends Date {
			constructor(...args) { args.length ? super(...args) : super(noon) }
			static now() { return noon }
		}
		const isNew = value => typeof value === "number" && value > began - 3600e3 && value < began + 3600e3
		const late = (key, value) => !isNew(value) ? value : key === "since" && value < began ? noon - 900e3 : noon + Math.round((value - began) / 1000) * 1000
		const parse = JSON.parse
		JSON.parse = (text, revive) => parse(text, (key, value) => late(key, revive ? revive(key, value) : value))
		Response.prototype.json = async function () { return JSON.parse(await this.text()) }
	}`, noon.UnixMilli(), began.UnixMilli())})
}

// picture waits until the view stands still, and takes a picture of it.
func (p *tab) picture(dir, view, look string) {
	p.t.Helper()
	var last []byte
	p.until(view+" stands still", func() bool {
		data, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		same := err == nil && bytes.Equal(data, last)
		last = data
		return same
	})
	small := shrink(p.t, last)
	if len(small) > maxImageSize {
		p.t.Errorf("picture of %s, %s: got %d bytes, want %d at most", view, look, len(small), maxImageSize)
	}
	if *update {
		dir = images
	}
	if err := os.WriteFile(filepath.Join(dir, view+"-"+look+".png"), small, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// shrink makes a picture of 256 colours of one of many: those that are there most, and
// for the others the nearest of them.
func shrink(t testing.TB, data []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	bounds := full.Bounds()
	pixels := make(map[color.RGBA]int)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixels[at(full, x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(pixels), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(pixels[b], pixels[a]), cmp.Compare(number(a), number(b)))
	})
	var palette color.Palette
	for _, c := range colors[:min(256, len(colors))] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(bounds, palette)
	nearest := make(map[color.RGBA]uint8)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(full, x, y)
			i, ok := nearest[c]
			if !ok {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			few.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func at(i image.Image, x, y int) color.RGBA { return color.RGBAModel.Convert(i.At(x, y)).(color.RGBA) }

func number(c color.RGBA) uint32 { return uint32(c.R)<<16 | uint32(c.G)<<8 | uint32(c.B) }
