package manual_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/manual"
	"unbrick/remediate/rescue"
)

var _ manual.Desk = (*rescue.Server)(nil)

// A desk remembers what it was told, and reports as it is told to.
type desk struct {
	told []string
	what string
	rep  remediate.Report
	err  error // nil and no report: a WaitError
}

func (d *desk) Await(_ context.Context, t remediate.Target, what string) error {
	d.told, d.what = append(d.told, "await "+t.ID()), what
	return nil
}

func (d *desk) RepairByStick(context.Context, remediate.Target, *playbooks.Playbook) (remediate.Report, error) {
	if d.err == nil && len(d.rep.Volumes) == 0 {
		return d.rep, &remediate.WaitError{For: d.what}
	}
	return d.rep, d.err
}

func (d *desk) Dismiss(_ context.Context, t remediate.Target) error {
	d.told = append(d.told, "dismiss "+t.ID())
	return nil
}

func target(notes ...remediate.Note) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Notes: notes, Route: inventory.Route{Driver: "manual", Address: "floor 3, desk 12"},
		Host: inventory.Host{Name: "WIN-0001", Site: "SYD", Technician: "Bob"}}
}

func playbook(t *testing.T) *playbooks.Playbook {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

func TestStages(t *testing.T) {
	d, cards := &desk{}, 0
	m := manual.New(manual.Options{Desk: d, Card: func(_ context.Context, t remediate.Target) (string, error) {
		cards++
		return "cards/" + t.Host.Name + ".html", nil
	}})
	p, err := m.Observe(t.Context(), target())
	if err != nil || p.Power != "unknown" {
		t.Errorf("posture %+v, %v", p, err)
	}
	for range 2 {
		if err := m.Enter(t.Context(), target(), remediate.Image{}); err != nil {
			t.Fatal(err)
		}
	}
	var wait *remediate.WaitError
	_, err = m.Repair(t.Context(), target(), playbook(t))
	if want := "a person at the host in SYD, floor 3, desk 12 (technician Bob): card cards/WIN-0001.html"; !errors.As(err, &wait) || wait.For != want {
		t.Errorf("waits for %v, want %q", err, want)
	}
	if err := m.Leave(t.Context(), target(), p); err != nil {
		t.Fatal(err)
	}
	if want := []string{"await r1/WIN-0001/1/manual", "await r1/WIN-0001/1/manual", "dismiss r1/WIN-0001/1/manual"}; !slices.Equal(d.told, want) || cards != 2 {
		t.Errorf("the desk was told %q, %d cards", d.told, cards)
	}
}

func TestNoCardNoVisit(t *testing.T) {
	d := &desk{}
	m := manual.New(manual.Options{Desk: d, Card: func(context.Context, remediate.Target) (string, error) {
		return "", &remediate.RetryError{After: time.Second, Err: errors.New("no escrow answers")}
	}})
	var retry *remediate.RetryError
	if err := m.Enter(t.Context(), target(), remediate.Image{}); !errors.As(err, &retry) || len(d.told) > 0 {
		t.Errorf("%v, the desk was told %q", err, d.told)
	}
}

// TestRepair says what counts: the report of a stick, a person's word, or neither.
func TestRepair(t *testing.T) {
	at := time.Date(2024, 7, 19, 22, 12, 0, 0, time.UTC)
	done := remediate.Note{By: "alice", What: remediate.Done, Text: "deleted it", At: at}
	gaveUp := remediate.Note{By: "alice", What: remediate.GaveUp, Text: "no power", At: at}
	remark := remediate.Note{By: "stick 1a2b3c4d", What: remediate.Remarked, At: at}
	seen := remediate.Note{By: "unbrick", What: remediate.Seen, At: at}
	repaired := remediate.Report{Agent: "v1 on stick 1a2b3c4d", Result: playbooks.Result{Volumes: []playbooks.VolumeResult{{
		Verdict: playbooks.Faulty, Findings: []playbooks.Finding{{Verdict: playbooks.Faulty, Files: []playbooks.File{{Path: "x", Faulty: true, Removed: true}}}}}}}}
	locked := errors.New("the volume is locked")
	for name, tt := range map[string]struct {
		notes []remediate.Note
		rep   remediate.Report
		err   error
		word  string // of the report
		says  string // the error; "wait": a WaitError
	}{
		"nobody came":                  {nil, remediate.Report{}, nil, "", "wait"},
		"a remark":                     {[]remediate.Note{remark}, remediate.Report{}, nil, "", "wait"},
		"a stick":                      {[]remediate.Note{remark}, repaired, nil, "", ""},
		"a stick found it locked":      {nil, remediate.Report{}, locked, "", "the volume is locked"},
		"done":                         {[]remediate.Note{done}, remediate.Report{}, nil, "alice at 2024-07-19 22:12 UTC: deleted it", ""},
		"done, and then seen":          {[]remediate.Note{done, seen}, remediate.Report{}, nil, "alice at 2024-07-19 22:12 UTC: deleted it", ""},
		"done after a stick failed":    {[]remediate.Note{remark, done}, remediate.Report{}, locked, "alice at 2024-07-19 22:12 UTC: deleted it (before that: the volume is locked)", ""},
		"done, and a stick repaired":   {[]remediate.Note{done}, repaired, nil, "", ""},
		"gave up":                      {[]remediate.Note{gaveUp}, remediate.Report{}, nil, "", "the person at the host gave up: alice at 2024-07-19 22:12 UTC: no power"},
		"gave up, a stick repaired":    {[]remediate.Note{gaveUp}, repaired, nil, "", ""},
		"gave up, then another came":   {[]remediate.Note{gaveUp, remark}, remediate.Report{}, nil, "", "wait"},
		"gave up, then it was done":    {[]remediate.Note{gaveUp, done}, remediate.Report{}, nil, "alice at", ""},
		"done, without another word":   {[]remediate.Note{{By: "bob", What: remediate.Done, At: at}}, remediate.Report{}, nil, "bob at 2024-07-19 22:12 UTC", ""},
		"done, and then it was not so": {[]remediate.Note{done, gaveUp}, remediate.Report{}, nil, "", "gave up"},
	} {
		t.Run(name, func(t *testing.T) {
			m := manual.New(manual.Options{Desk: &desk{what: "a person", rep: tt.rep, err: tt.err}})
			rep, err := m.Repair(t.Context(), target(tt.notes...), playbook(t))
			var wait *remediate.WaitError
			switch {
			case tt.says == "" && (err != nil || rep.Proof() != nil):
				t.Errorf("%v, proof %v", err, rep.Proof())
			case tt.says == "wait" && !errors.As(err, &wait), tt.says != "" && tt.says != "wait" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("error %v, want %q", err, tt.says)
			}
			if !strings.HasPrefix(rep.Word, tt.word) || tt.word == "" && rep.Word != "" {
				t.Errorf("word %q, want %q", rep.Word, tt.word)
			}
			if rep.Word != "" && (len(rep.Removed()) > 0 || !strings.HasSuffix(rep.Agent, " (by word)")) {
				t.Errorf("the report does not say honestly that it is a word: %+v", rep)
			}
		})
	}
}
