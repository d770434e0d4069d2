package winrm

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"unbrick/playbooks"
	client "unbrick/remediate/winrm"
)

// SafeModeMark is the file by which a host remembers that unbrick, and nobody else, has it
// start in Safe Mode. Who sets the flag makes the file first; Leave removes both. Where the
// volume of Windows could not be written to, BootMark is there instead.
const SafeModeMark = keepBase + `\safeboot.txt`

// BootMark is such a file beside the boot store: JSON that has the boot entry under "entry".
const BootMark = "unbrick-safeboot.json"

// bootFolders are where a boot store is: on the EFI system partition, or where BIOS starts from.
var bootFolders = []string{`EFI\Microsoft\Boot`, `Boot`}

// normalStart has a host that is in Safe Mode start normally again if unbrick had it start so.
// The mark goes last: until then the job may be done again. stays says that the host will start
// in Safe Mode all the same, by the will of somebody else.
func (l leaving) normalStart(ctx context.Context) (stays bool, err error) {
	entries, err := bootEntries(ctx, l.s)
	if err != nil {
		return false, err
	}
	r, err := l.s.Run(ctx, `if exist "`+SafeModeMark+`" echo ours`, nil)
	if err != nil {
		return false, err
	}
	remove := `del "` + SafeModeMark + `"`
	if !strings.Contains(string(r.Stdout), "ours") {
		at, found, err := findMark(ctx, l.s, entries)
		if err != nil {
			return false, err
		}
		if !found {
			return slices.ContainsFunc(entries, func(e bootEntry) bool { return e.safe }), nil
		}
		remove = at.line(`del /f "%s"`)
	}
	if err := clearSafeMode(ctx, l.s, entries); err != nil {
		return false, err
	}
	_, err = l.s.Run(ctx, remove, nil)
	return false, err
}

// safeboot carries out the step of that name.
func (p *plan) safeboot(ctx context.Context, s *client.Session, f *playbooks.Finding) error {
	entries, err := bootEntries(ctx, s)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.safe {
			f.Verdict = playbooks.Faulty
			f.Values = append(f.Values, playbooks.Value{Path: "BCD", Name: e.id + `\safeboot`, Was: "set", Is: "not there", Faulty: true,
				Why: "Windows would start in Safe Mode"})
		}
	}
	if len(f.Values) == 0 {
		return nil
	}
	// Leave restarts a host that has this directory.
	if _, err = s.Run(ctx, `if not exist "`+keepBase+`\`+p.id+`\*" mkdir "`+keepBase+`\`+p.id+`"`, nil); err == nil {
		err = clearSafeMode(ctx, s, entries)
	}
	for i := range f.Values {
		f.Values[i].Changed = err == nil
	}
	return err
}

// A bootEntry is one that starts Windows.
type bootEntry struct {
	id   string // GUID, in braces
	safe bool   // it starts in Safe Mode
}

var guid = regexp.MustCompile(`\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}`)

// bootEntries returns the entry that runs and the one that starts by default, which may be
// another: a flag that is cleared on one alone has the host start in Safe Mode again.
func bootEntries(ctx context.Context, s *client.Session) ([]bootEntry, error) {
	r, err := s.Run(ctx, `bcdedit /enum {current} /v& bcdedit /enum {default} /v`, nil)
	if err != nil {
		return nil, err
	}
	entries := parseEntries(string(r.Stdout))
	if len(entries) == 0 {
		return nil, fmt.Errorf("cannot read the boot entry: bcdedit ended with code %d", r.Code)
	}
	return entries, nil
}

// parseEntries reads what bcdedit /enum /v prints. The names of boot options are the same in
// every language; the word for an entry's identifier is not, but it comes first.
func parseEntries(out string) (entries []bootEntry) {
	begins := true // the next GUID is an entry's own
	at := -1
	for line := range strings.Lines(out) {
		word := strings.Fields(strings.ToLower(line))
		switch id := strings.ToLower(guid.FindString(line)); {
		case len(word) == 0:
			begins = true
		case begins && id != "":
			begins = false
			if at = slices.IndexFunc(entries, func(e bootEntry) bool { return e.id == id }); at < 0 {
				at, entries = len(entries), append(entries, bootEntry{id: id})
			}
		case at >= 0 && len(word) > 1 && word[0] == "safeboot":
			entries[at].safe = true
		}
	}
	return entries
}

// clearSafeMode clears the flag of those entries that have it, and looks whether it is gone.
func clearSafeMode(ctx context.Context, s *client.Session, entries []bootEntry) error {
	for _, e := range entries {
		if !e.safe {
			continue
		}
		// One that has no flag makes bcdedit fail: what counts is what is there after.
		if _, err := s.Run(ctx, `bcdedit /deletevalue `+e.id+` safeboot`, nil); err != nil {
			return err
		}
	}
	now, err := bootEntries(ctx, s)
	if err == nil && slices.ContainsFunc(now, func(e bootEntry) bool { return e.safe }) {
		err = errors.New("cannot clear the Safe Mode flag: bcdedit did not remove it")
	}
	return err
}

// A spot is a volume of the host on which a boot store may be.
type spot struct {
	volume string // what mountvol mounts: /S or a volume's name; empty if it has its letter
	letter string // "C:", or one that is free
}

// looked is what a command line says that came to where it was to look.
const looked = "unbrick looked"

// line makes a command line of a command for a file, which is carried out for the BootMarks
// that are there. A volume without a letter has one for as long as that takes. What was not
// mounted is not unmounted: the letter may be somebody else's.
func (s spot) line(command string) string {
	line := "(echo " + looked + ")"
	for _, folder := range bootFolders {
		path := s.letter + `\` + folder + `\` + BootMark
		line += `& (if exist "` + path + `" ` + strings.ReplaceAll(command, "%s", path) + `)`
	}
	if s.volume == "" {
		return line
	}
	return "mountvol " + s.letter + " " + s.volume + "&& (" + line + "& mountvol " + s.letter + " /D)"
}

// findMark looks for a BootMark that is about one of the entries.
func findMark(ctx context.Context, s *client.Session, entries []bootEntry) (at spot, found bool, err error) {
	r, err := s.Run(ctx, `mountvol& for %d in (`+letters+`) do @if not exist %d:\ echo free %d:`, nil)
	if err != nil {
		return at, false, err
	}
	for _, at := range spots(string(r.Stdout)) {
		r, err := s.Run(ctx, at.line(`type "%s"`), nil)
		if err != nil {
			return at, false, err
		}
		out := string(r.Stdout)
		for _, m := range markEntry.FindAllStringSubmatch(out, -1) {
			if slices.ContainsFunc(entries, func(e bootEntry) bool { return strings.EqualFold(e.id, m[1]) }) {
				return at, true, nil
			}
		}
		if at.volume == "/S" && strings.Contains(out, looked) {
			break // what has an EFI system partition starts from there
		}
	}
	return at, false, nil
}

const letters = "Z Y X W V U T S R Q P O N M L K J I H G F E D"

var (
	markEntry  = regexp.MustCompile(`"entry"\s*:\s*"(` + guid.String() + `)"`)
	volumeName = regexp.MustCompile(`^\\\\\?\\Volume\{[0-9A-Fa-f-]{36}\}\\$`)
	driveRoot  = regexp.MustCompile(`^[A-Z]:\\$`)
	freeLetter = regexp.MustCompile(`^free ([D-Z]:)$`)
)

// spots returns where a boot store may be, from the list that mountvol prints: the name of each
// volume, and below it where it is mounted. Volumes with a letter come first, and the system
// partition by its own name before the others, since not every Windows lists it.
func spots(out string) (all []spot) {
	var hidden []spot
	taken, volume, free := map[string]bool{}, "", ""
	end := func() {
		if volume != "" {
			hidden = append(hidden, spot{volume: volume})
		}
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case volumeName.MatchString(line):
			end()
			volume = line
		case driveRoot.MatchString(line) && volume != "":
			all, volume = append(all, spot{letter: line[:2]}), ""
			taken[line[:2]] = true
		case free == "" && freeLetter.MatchString(line) && !taken[line[5:]]:
			free = line[5:]
		}
	}
	end()
	if free == "" {
		return all
	}
	all = append(all, spot{"/S", free})
	for _, h := range hidden {
		all = append(all, spot{h.volume, free})
	}
	return all
}
