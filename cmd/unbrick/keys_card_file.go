package main

import (
	"errors"
	"io"
	"os"

	"unbrick/bitlocker/card"
)

// A cardFile is both forms of a page on their way to a folder, readable by their owner alone.
// The page is there when its HTML is, which comes last and whole: what a process left that was
// cut off before is no page, and the next one writes over it.
type cardFile struct {
	name      string // without an ending
	png, html *os.File
}

// partEnding is what a form is called until it is whole.
const partEnding = ".part"

// openCard opens what the forms are written to: a key is not given out for a page that has no
// place. write or drop has to follow.
func openCard(name string) (f *cardFile, err error) {
	f = &cardFile{name: name}
	const flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if f.png, err = os.OpenFile(name+".png"+partEnding, flags, 0o600); err != nil {
		return nil, err
	}
	if f.html, err = os.OpenFile(name+".html"+partEnding, flags, 0o600); err != nil {
		f.drop()
		return nil, err
	}
	return f, nil
}

// write makes the page, or leaves nothing of it.
func (f *cardFile) write(page card.Card) error {
	for _, step := range f.steps(page) {
		if err := step(); err != nil {
			f.drop()
			return err
		}
	}
	return nil
}

// steps are what makes a page, one after the other. A process may end between any two.
func (f *cardFile) steps(page card.Card) []func() error {
	fill := func(to *os.File, draw func(io.Writer) error) func() error {
		return func() error { return errors.Join(draw(to), to.Sync(), to.Close()) }
	}
	name := func(ending string) func() error {
		return func() error { return os.Rename(f.name+ending+partEnding, f.name+ending) }
	}
	return []func() error{fill(f.png, page.PNG), fill(f.html, page.HTML), name(".png"), name(".html")}
}

// drop leaves nothing of a page that was not written.
func (f *cardFile) drop() {
	for ending, file := range map[string]*os.File{".png": f.png, ".html": f.html} {
		if file != nil {
			file.Close() // again, perhaps
			os.Remove(f.name + ending + partEnding)
		}
	}
	if f.html != nil {
		os.Remove(f.name + ".png") // the HTML was not named, so there is no page
	}
}
