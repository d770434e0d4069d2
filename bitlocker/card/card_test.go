package card_test

import (
	"bytes"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/bitlocker/keytest"
	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv"
)

func sample(seed uint64) card.Card {
	r := rand.NewPCG(seed, 1)
	return card.Card{
		Host: "SYD-PC-001", Site: "SYD", ID: keytest.NewKeyID(r), Key: keytest.NewKey(r),
		Admin: "helpdesk", Password: secret.New(`x<7&"Qé'`), Steps: []string{"Restart in Safe Mode."},
		Actor: "alice", Reason: "INC0012345", Made: time.Date(2024, 7, 19, 9, 0, 0, 0, time.UTC),
	}
}

// decode reads the codes of a PNG file with a reader that nobody here wrote.
func decode(t *testing.T, file string) []string {
	t.Helper()
	out, err := exec.Command("zbarimg", "-q", file).Output()
	if err != nil {
		t.Fatalf("zbarimg finds nothing: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return lines
}

// want is what a reader has to say of the key. zbarimg says once what it reads twice.
func want(k bitlocker.Key) []string {
	digits := strings.ReplaceAll(k.Reveal(), "-", "")
	all := []string{"CODE-128:" + digits[:24], "CODE-128:" + digits[24:], "QR-Code:" + digits}
	slices.Sort(all)
	return slices.Compact(all)
}

// edges are keys whose digits begin or end with zeros: what is lost where a code holds a number.
func edges() map[string]bitlocker.Key {
	all := map[string]bitlocker.Key{
		"leading zeros":       bitlocker.NewKey([16]byte{0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0}),
		"zeros in the middle": bitlocker.NewKey([16]byte{9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}),
		"trailing zeros":      bitlocker.NewKey([16]byte{1, 0, 2, 0, 3, 0, 9, 0, 9, 0, 9, 9, 0, 0, 0, 0}),
		"largest":             bitlocker.NewKey([16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}),
	}
	for seed := range uint64(2) {
		all["key "+strconv.Itoa(int(seed))] = sample(seed).Key
	}
	return all
}

func TestPNGIsReadByAScanner(t *testing.T) {
	testenv.Need(t, "zbarimg")
	for name, key := range edges() {
		t.Run(name, func(t *testing.T) {
			c := sample(1)
			c.Key = key
			var b bytes.Buffer
			if err := c.PNG(&b); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "card.png")
			if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := decode(t, file); !slices.Equal(got, want(key)) {
				t.Errorf("%d codes were read, and not those of the key", len(got))
			}
		})
	}
}

var (
	svgTag = regexp.MustCompile(`<svg width="(\d+)" height="(\d+)" viewBox="0 0 (\d+) (\d+)"[^>]*><path d="([^"]*)"`)
	run    = regexp.MustCompile(`M(\d+) (\d+)h(\d+)v(\d+)h-\d+z`)
)

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// raster paints the codes of the page as a browser would, below each other.
func raster(t *testing.T, page string) image.Image {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 1000, 1000))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	y := 20
	for _, tag := range svgTag.FindAllStringSubmatch(page, -1) {
		width, height, columns, rows := number(t, tag[1]), number(t, tag[2]), number(t, tag[3]), number(t, tag[4])
		if width%columns != 0 || height%rows != 0 || width/columns != height/rows || width/columns < 3 || width > 700 {
			t.Errorf("%d×%d pixels for %d×%d modules: not a whole number of 3 or more, or too wide for paper", width, height, columns, rows)
		}
		k := width / columns
		for _, m := range run.FindAllStringSubmatch(tag[5], -1) {
			x0, y0, w, h := number(t, m[1]), number(t, m[2]), number(t, m[3]), number(t, m[4])
			draw.Draw(img, image.Rect(20+k*x0, y+k*y0, 20+k*(x0+w), y+k*(y0+h)), image.NewUniform(color.Black), image.Point{}, draw.Src)
		}
		y += height + 40
	}
	return img
}

func TestHTMLIsReadByAScanner(t *testing.T) {
	testenv.Need(t, "zbarimg")
	for name, key := range edges() {
		t.Run(name, func(t *testing.T) {
			c := sample(1)
			c.Key = key
			var page bytes.Buffer
			if err := c.HTML(&page); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "codes.png")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, raster(t, page.String())); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if got := decode(t, file); !slices.Equal(got, want(key)) {
				t.Errorf("%d codes were read, and not those of the key", len(got))
			}
		})
	}
}

// The sizes are those of QR version 2 and of set C of Code 128, with their quiet zones: any
// other choice of the encoder makes symbols that do not fit or scan.
func TestSymbolSizes(t *testing.T) {
	for name, key := range edges() {
		c := sample(1)
		c.Key = key
		var page bytes.Buffer
		if err := c.HTML(&page); err != nil {
			t.Fatal(err)
		}
		var sizes []string
		for _, tag := range svgTag.FindAllStringSubmatch(page.String(), -1) {
			sizes = append(sizes, tag[3]+"x"+tag[4])
		}
		if got := strings.Join(sizes, " "); got != "33x33 187x32 187x32" {
			t.Errorf("%s: %s modules", name, got)
		}
	}
}

func TestHTMLSaysWhatToDo(t *testing.T) {
	c := sample(1)
	var b bytes.Buffer
	if err := c.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, must := range append(strings.Split(c.Key.Reveal(), "-"),
		"SYD-PC-001", "<b>"+c.ID.String()[:8]+"</b>"+c.ID.String()[8:], "1 of 2", "2 of 2", html.EscapeString("helpdesk"),
		"Restart in Safe Mode.", "F10 is 0", "drawn 2024-07-19 09:00 UTC for alice: INC0012345", "x&lt;7&amp;&#34;Qé&#39;") {
		if !strings.Contains(page, must) {
			t.Errorf("the page lacks something (%d characters) that it must say", len(must))
		}
	}
	for _, foreign := range []string{"http:", "https:", "src=", "href=", "@import", "url("} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page loads something: %s", foreign)
		}
	}
	c.Password = secret.Value{}
	b.Reset()
	if err := c.HTML(&b); err != nil || strings.Contains(b.String(), "administrator") {
		t.Errorf("a password is spoken of where there is none (%v)", err)
	}
}

// A name from an inventory is text, whatever is in it.
func TestHTMLEscapes(t *testing.T) {
	c := sample(1)
	c.Host, c.Reason, c.Steps = "<script>x</script>", "<b>", []string{`"><img>`}
	var b bytes.Buffer
	if err := c.HTML(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script>") || strings.Contains(b.String(), "<img>") {
		t.Error("markup got through")
	}
}

// A page with many steps and a password that fills lines is higher, and still read.
func TestPNGGrows(t *testing.T) {
	c := sample(1)
	c.Password = secret.New(strings.Repeat("Wq8", 40))
	for range 30 {
		c.Steps = append(c.Steps, strings.Repeat("a long step of many words ", 8))
	}
	var b bytes.Buffer
	if err := c.PNG(&b); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	r := img.Bounds()
	if r.Dy() <= 1169 {
		t.Fatalf("%v: what did not fit was cut off", r)
	}
	for x := range r.Dx() {
		for y := r.Dy() - 20; y < r.Dy(); y++ {
			if img.At(x, y) != (color.Gray{255}) {
				t.Fatal("text runs off the page")
			}
		}
	}
}

func TestNoCardWithoutAKey(t *testing.T) {
	for name, change := range map[string]func(*card.Card){
		"key": func(c *card.Card) { c.Key = bitlocker.Key{} }, "id": func(c *card.Card) { c.ID = bitlocker.KeyID{} }, "host": func(c *card.Card) { c.Host = "" },
	} {
		c := sample(1)
		change(&c)
		var b bytes.Buffer
		if c.HTML(&b) == nil || c.PNG(&b) == nil || b.Len() > 0 {
			t.Errorf("a card without its %s", name)
		}
	}
}
