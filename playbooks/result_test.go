package playbooks_test

import (
	"errors"
	"testing"

	"unbrick/playbooks"
)

func TestOverall(t *testing.T) {
	type vs = []playbooks.Verdict
	const (
		absent, clean, good, faulty = playbooks.Absent, playbooks.Clean, playbooks.Good, playbooks.Faulty
		both, unreadable, locked    = playbooks.Both, playbooks.Unreadable, playbooks.Locked
	)
	for _, c := range []struct {
		of   vs
		want playbooks.Verdict
	}{
		{nil, absent},
		{vs{absent, absent}, absent},
		{vs{absent, clean}, clean},
		{vs{clean, good, absent}, good},
		{vs{good, unreadable}, unreadable},
		{vs{unreadable, locked, good}, locked},
		{vs{faulty, locked, unreadable, clean}, faulty},
		{vs{faulty, good}, both},
		{vs{good, absent, faulty, locked}, both},
		{vs{both, faulty}, both},
	} {
		if got := playbooks.Overall(c.of...); got != c.want {
			t.Errorf("%v is %s, want %s", c.of, got, c.want)
		}
	}
}

func TestNewVolumeResult(t *testing.T) {
	fault := errors.New("input/output error")
	of := func(vs ...playbooks.Verdict) (fs []playbooks.Finding) {
		for _, v := range vs {
			fs = append(fs, playbooks.Finding{Verdict: v})
		}
		return fs
	}
	for _, c := range []struct {
		of   []playbooks.Finding
		err  error
		want playbooks.Verdict
	}{
		{nil, nil, playbooks.Absent},
		{nil, fault, playbooks.Unreadable},
		{of(playbooks.Good), fault, playbooks.Unreadable},
		{of(playbooks.Faulty), fault, playbooks.Faulty},
		{of(playbooks.Faulty, playbooks.Good), nil, playbooks.Both},
	} {
		r := playbooks.NewVolumeResult("v", c.of, c.err)
		if r.Verdict != c.want || (r.Error != "") != (c.err != nil) {
			t.Errorf("%+v, want %s", r, c.want)
		}
	}
}
