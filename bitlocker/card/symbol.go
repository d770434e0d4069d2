package card

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"strings"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/code128"
	"github.com/boombuler/barcode/qr"
)

// Quiet zones in modules: what the standards ask for.
const (
	quietQR   = 4
	quietBars = 10
)

// rowDigits is how many digits a bar has: two rows of 24 fit on a page and a screen with modules
// wide enough for cheap scanners, one row of 48 does not.
const rowDigits = 24

// A symbol is a bar code, a module a bit, with its quiet zone. A module becomes a whole number
// of pixels: scaled by a fraction, bars get uneven and scanners fail.
type symbol struct {
	modules [][]bool // rows of dark modules
	scale   int      // pixels a module
	stretch int      // a row of modules is so many modules high
}

func (s symbol) width() int  { return len(s.modules[0]) * s.scale }
func (s symbol) height() int { return len(s.modules) * s.stretch * s.scale }

// newSymbol puts a code on its quiet zone. Bars are one row and need no zone above them.
func newSymbol(b barcode.Barcode, quiet, scale, stretch int) symbol {
	r := b.Bounds()
	margin := quiet
	if r.Dy() == 1 {
		margin = 0
	}
	s := symbol{scale: scale, stretch: stretch}
	for y := -margin; y < r.Dy()+margin; y++ {
		row := make([]bool, r.Dx()+2*quiet)
		for x := range r.Dx() {
			p := image.Pt(r.Min.X+x, r.Min.Y+y)
			row[quiet+x] = p.In(r) && color.GrayModel.Convert(b.At(p.X, p.Y)).(color.Gray).Y < 128
		}
		s.modules = append(s.modules, row)
	}
	return s
}

// symbols returns the QR code of all 48 digits, and the two bars of 24.
func (c Card) symbols() (square symbol, bars [2]symbol, err error) {
	digits := strings.Join(c.groups(), "")
	q, err := qr.Encode(digits, qr.M, qr.Numeric)
	if err != nil {
		return square, bars, fmt.Errorf("cannot draw the square code of host %s", c.Host) // not err: it may repeat the digits
	}
	square = newSymbol(q, quietQR, 8, 1)
	for i := range bars {
		b, err := code128.Encode(digits[i*rowDigits : (i+1)*rowDigits])
		if err != nil {
			return square, bars, fmt.Errorf("cannot draw the bars of host %s", c.Host)
		}
		bars[i] = newSymbol(b, quietBars, 3, 32) // 561 pixels: no browser shrinks that to fit A4
	}
	return square, bars, nil
}

// draw puts the symbol on img with its upper left corner at p.
func (s symbol) draw(img draw.Image, p image.Point) {
	for y, row := range s.modules {
		for x, dark := range row {
			c := image.White
			if dark {
				c = image.Black
			}
			at := image.Rect(x*s.scale, y*s.stretch*s.scale, (x+1)*s.scale, (y+1)*s.stretch*s.scale).Add(p)
			draw.Draw(img, at, c, image.Point{}, draw.Src)
		}
	}
}

// svg returns the symbol as an SVG path in modules, one rectangle for each run of dark ones.
func (s symbol) svg() string {
	var b strings.Builder
	for y, row := range s.modules {
		for x := 0; x < len(row); x++ {
			if !row[x] {
				continue
			}
			start := x
			for x < len(row) && row[x] {
				x++
			}
			fmt.Fprintf(&b, "M%d %dh%dv%dh-%dz", start, y*s.stretch, x-start, s.stretch, x-start)
		}
	}
	return b.String()
}
