package card

import (
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// The page is as wide as A4 at 100 dots an inch, and as high as it has to be, but not less
// than A4.
const (
	pageWidth  = 827
	pageHeight = 1169
	margin     = 36
)

// PNG writes the card as an image of grey levels, for a telephone's screen or a printer.
func (c Card) PNG(w io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	// Twice: the first time to see how high it gets.
	s, err := c.sheet(pageHeight)
	if err == nil && s.y+margin > pageHeight {
		s, err = c.sheet(s.y + margin)
	}
	if err != nil {
		return err
	}
	return png.Encode(w, s.img)
}

// sheet draws the page at a height.
func (c Card) sheet(height int) (*sheet, error) {
	square, bars, err := c.symbols()
	if err != nil {
		return nil, err
	}
	s, err := newSheet(height)
	if err != nil {
		return nil, err
	}
	title := c.Host
	if c.Site != "" {
		title += " (" + c.Site + ")"
	}
	s.text(s.title, title)
	first, rest := c.idParts()
	s.text(s.body, "Recovery key ID")
	s.boxed(first, rest)
	s.gap(8)

	s.text(s.bold, "Scan this, or read it out group by group")
	top := s.y
	square.draw(s.img, image.Pt(margin, top))
	for i, g := range c.groups() {
		s.at(s.digits, margin+square.width()+24+i/4*220, top+50+i%4*52, fmt.Sprintf("%d: %s", i+1, g))
	}
	s.y = top + square.height() + 8
	for i, b := range bars {
		s.text(s.bold, "Or these two, in order: "+barLabel(i))
		b.draw(s.img, image.Pt(margin, s.y))
		s.y += b.height() + 10
	}
	if c.hasPassword() {
		s.text(s.bold, "Local administrator "+c.Admin)
		s.text(s.digits, c.Password.Reveal())
	}
	s.text(s.bold, "What to do")
	for i, step := range c.steps() {
		s.text(s.body, fmt.Sprintf("%d. %s", i+1, step))
	}
	s.gap(8)
	s.text(s.body, c.origin())
	return s, nil
}

// A sheet is a page that fills from the top.
type sheet struct {
	img *image.Gray
	y   int

	title, bold, body, digits, mono font.Face
}

func newSheet(height int) (*sheet, error) {
	s := &sheet{img: image.NewGray(image.Rect(0, 0, pageWidth, height)), y: margin}
	draw.Draw(s.img, s.img.Bounds(), image.White, image.Point{}, draw.Src)
	for _, f := range []struct {
		face *font.Face
		ttf  []byte
		size float64
	}{
		{&s.title, gobold.TTF, 30}, {&s.bold, gobold.TTF, 16}, {&s.body, goregular.TTF, 16},
		{&s.digits, gomonobold.TTF, 28}, {&s.mono, gomono.TTF, 20},
	} {
		parsed, err := opentype.Parse(f.ttf)
		if err != nil {
			return nil, fmt.Errorf("cannot read a font: %w", err)
		}
		if *f.face, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: f.size, DPI: 72, Hinting: font.HintingFull}); err != nil {
			return nil, fmt.Errorf("cannot read a font: %w", err)
		}
	}
	return s, nil
}

func (s *sheet) gap(pixels int) { s.y += pixels }

// at writes text with its base line at y, and returns where it ends.
func (s *sheet) at(f font.Face, x, y int, text string) int {
	d := font.Drawer{Dst: s.img, Src: image.Black, Face: f, Dot: fixed.P(x, y)}
	d.DrawString(text)
	return d.Dot.X.Ceil()
}

// text writes lines broken at spaces, and within a word that is wider than the page.
func (s *sheet) text(f font.Face, text string) {
	m := f.Metrics()
	for _, line := range wrap(text, func(t string) bool { return font.MeasureString(f, t).Ceil() <= pageWidth-2*margin }) {
		s.y += m.Ascent.Ceil()
		s.at(f, margin, s.y, line)
		s.y += m.Descent.Ceil() + 3
	}
}

// boxed writes the part of the key id that is compared in a frame, and the rest behind it.
func (s *sheet) boxed(first, rest string) {
	m := s.digits.Metrics()
	base := s.y + m.Ascent.Ceil() + 6
	end := s.at(s.digits, margin+8, base, first)
	frame := image.Rect(margin, s.y, end+8, base+m.Descent.Ceil()+4)
	for i := range 3 {
		r := frame.Inset(i)
		for _, edge := range []image.Rectangle{
			{r.Min, image.Pt(r.Max.X, r.Min.Y+1)}, {image.Pt(r.Min.X, r.Max.Y-1), r.Max},
			{r.Min, image.Pt(r.Min.X+1, r.Max.Y)}, {image.Pt(r.Max.X-1, r.Min.Y), r.Max},
		} {
			draw.Draw(s.img, edge, image.Black, image.Point{}, draw.Src)
		}
	}
	s.at(s.mono, end+14, base, rest)
	s.y = frame.Max.Y + 4
}

// wrap breaks text into lines that fit. No character is lost: a password has no spaces.
func wrap(text string, fits func(string) bool) (lines []string) {
	for text != "" {
		n := len(text)
		for !fits(text[:n]) && n > 1 {
			if i := strings.LastIndexByte(text[:n], ' '); i > 0 {
				n = i
				continue
			}
			n--
			for n > 1 && text[n]&0xc0 == 0x80 { // not within a character
				n--
			}
		}
		lines = append(lines, text[:n])
		text = strings.TrimPrefix(text[n:], " ")
	}
	return lines
}
