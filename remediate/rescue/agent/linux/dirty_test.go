package linux

import (
	"errors"
	"slices"
	"testing"

	"unbrick/remediate/rescue/wire"
)

func TestDecide(t *testing.T) {
	var (
		clean   = Log{Major: 1, Minor: 1, Clean: true}
		old     = Log{Major: 1, Minor: 1}
		crashed = Log{Major: 2}
		cached  = Log{Major: 2, Clean: true}
		future  = Log{Major: 3}
		empty   = Log{Empty: true, Clean: true}
		none    = wire.Allow{}
		hib     = wire.Allow{Hibernated: true}
		drop    = wire.Allow{DropJournal: true}
		both    = wire.Allow{Hibernated: true, DropJournal: true}
	)
	type refusal int
	const (
		fine refusal = iota
		hibernation
		journal
	)
	for name, c := range map[string]struct {
		session string
		log     Log
		logErr  error
		allow   wire.Allow
		want    cure
		refused refusal
	}{
		"clean":                          {"", clean, nil, none, cure{}, fine},
		"never used":                     {"", empty, nil, none, cure{}, fine},
		"1.1 unclean":                    {"", old, nil, none, cure{replay: []string{"ntfsrecover"}}, fine},
		"2.0 unclean":                    {"", crashed, nil, none, cure{replay: []string{"ntfsrecover", "-k"}}, fine},
		"2.0 although clean":             {"", cached, nil, none, cure{replay: []string{"ntfsrecover", "-k"}}, fine},
		"2.0 unclean, may be dropped":    {"", crashed, nil, drop, cure{replay: []string{"ntfsrecover", "-k"}, mayDrop: true}, fine},
		"clean is never dropped":         {"", clean, nil, drop, cure{mayDrop: true}, fine},
		"unknown version":                {"", future, nil, none, cure{}, journal},
		"unknown version, may be lost":   {"", future, nil, drop, cure{drop: true, mayDrop: true}, fine},
		"unknown minor version":          {"", Log{Major: 2, Minor: 1}, nil, none, cure{}, journal},
		"unreadable":                     {"", Log{}, errors.New("torn"), none, cure{}, journal},
		"unreadable, may be lost":        {"", Log{}, errors.New("torn"), drop, cure{drop: true, mayDrop: true}, fine},
		"hibernated":                     {"hibr", crashed, nil, none, cure{}, hibernation},
		"hibernated, Windows 10":         {"HIBR", crashed, nil, none, cure{}, hibernation},
		"hibernated with a clean log":    {"hibr", clean, nil, none, cure{}, hibernation},
		"hibernated, journal allowed":    {"hibr", crashed, nil, drop, cure{}, hibernation},
		"hibernated, allowed":            {"hibr", crashed, nil, hib, cure{replay: []string{"ntfsrecover", "-k"}, endSession: true}, fine},
		"hibernated, unreadable":         {"hibr", Log{}, errors.New("torn"), hib, cure{}, journal},
		"hibernated, unreadable, both":   {"hibr", Log{}, errors.New("torn"), both, cure{drop: true, mayDrop: true, endSession: true}, fine},
		"resumed into the crash":         {"wake", clean, nil, none, cure{}, fine},
		"session given up":               {"\x00\x00\x00\x00", clean, nil, none, cure{}, fine},
		"session given up, allowed":      {"\x00\x00\x00\x00", clean, nil, hib, cure{}, fine},
		"hiberfil.sys of three bytes":    {"hib", clean, nil, none, cure{}, fine},
		"the resume was cut off, Win 10": {"RSTR", crashed, nil, none, cure{replay: []string{"ntfsrecover", "-k"}}, fine},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decide([]byte(c.session), c.log, c.logErr, c.allow)
			var je *JournalError
			switch {
			case errors.Is(err, ErrHibernated) != (c.refused == hibernation), errors.As(err, &je) != (c.refused == journal), (err == nil) != (c.refused == fine):
				t.Fatalf("error %v", err)
			case !slices.Equal(got.replay, c.want.replay), got.drop != c.want.drop, got.mayDrop != c.want.mayDrop, got.endSession != c.want.endSession:
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
