package winrm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/winrm"
	client "unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

func TestDriver(t *testing.T) {
	for name, change := range map[string]func(*windows){
		"up": func(*windows) {},
		"in Safe Mode": func(w *windows) {
			w.safeMode, w.flag, w.bootMark, w.says = "0x2", true, "/S", `{"entry": "`+running+`"}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.RunRepairer(t, func(t *testing.T) drivertest.Patient {
				w := sick(t, func(w *windows, _ *winrmtest.Options) { change(w) })
				return patient(t, w)
			})
		})
	}
}

func patient(t *testing.T, w *windows) drivertest.Patient {
	cut, marked := false, w.bootMark != ""
	return drivertest.Patient{
		Driver: winrm.New(options()), Target: w.target(), Playbook: library(t),
		Broken: w.broken, Harm: w.harm,
		Restarts: func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.restarts },
		Left: func() string {
			if w.Count().Shells > 0 && !cut {
				return "a shell"
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if marked {
				return w.left()
			}
			return ""
		},
		Requests: func() []bool {
			var all []bool
			for _, op := range w.Requests() {
				all = append(all, op == winrmtest.Create || op == winrmtest.Execute || op == winrmtest.Send || op == winrmtest.Delete)
			}
			return all
		},
		Cut: func(n int, l drivertest.Loss) {
			cut = true
			kind := map[drivertest.Loss]winrmtest.Kind{drivertest.LostBefore: winrmtest.DropBefore, drivertest.LostAfter: winrmtest.DropAfter, drivertest.Death: winrmtest.Crash}[l]
			w.Order(winrmtest.Fault{Kind: kind, Skip: n})
		},
		Revive: w.Revive,
		Hang:   func() { w.Order(winrmtest.Fault{Kind: winrmtest.Hang, Count: -1}) },
	}
}

func repair(t *testing.T, w *windows, o winrm.Options) (remediate.Report, error) {
	t.Helper()
	return winrm.New(o).Repair(t.Context(), w.target(), library(t))
}

// TestCaught: a host that crashes again and again, and is up for one command now and then, is
// repaired in the first moment that is long enough.
func TestCaught(t *testing.T) {
	w := sick(t, nil)
	o := options()
	o.Times.Catch = 20 * time.Second
	w.Die()
	done := make(chan error, 1)
	go func() {
		r, err := repair(t, w, o)
		if err == nil {
			err = r.Proof()
		}
		done <- err
	}()
	for _, f := range []winrmtest.Fault{
		{Kind: winrmtest.CrashBefore, Op: winrmtest.Login}, {Kind: winrmtest.CrashBefore, Op: winrmtest.Create}, {Kind: winrmtest.Crash, Op: winrmtest.Execute},
		{Kind: winrmtest.CrashBefore, Op: winrmtest.Send}, {Kind: winrmtest.Crash, Op: winrmtest.Receive, Skip: 1},
	} {
		w.Order(f)
		w.Revive()
		for end := time.Now().Add(10 * time.Second); !w.Dead(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the driver did not come as far as %s: %v", f.Op, w.Requests())
			}
		}
	}
	w.Revive()
	if err := <-done; err != nil || w.broken() || w.harm() != "" {
		t.Errorf("%v, broken %v, %s", err, w.broken(), w.harm())
	}
}

// TestReport: the verdicts are those of the playbook, and every file is told.
func TestReport(t *testing.T) {
	w := sick(t, nil)
	r, err := repair(t, w, options())
	if err != nil || len(r.Volumes) != 1 || r.Volumes[0].Verdict != playbooks.Both || r.Volumes[0].Volume != "C:" || r.Playbook != "crowdstrike-291" {
		t.Fatalf("%+v, %v", r, err)
	}
	f := r.Volumes[0].Findings[0]
	if len(f.Files) != 2 || f.Root != "Windows" || f.Files[0].Removed || !f.Files[1].Removed ||
		f.Files[1].Path != "Windows/System32/drivers/CrowdStrike/"+badly || !f.Files[1].ModTime.Equal(bad) ||
		!strings.HasSuffix(f.Files[1].Why, `; moved to C:\x\1~`+badly) {
		t.Errorf("%+v", f)
	}
}

// TestNothingToDo: absent, clean and good hosts are left as they are.
func TestNothingToDo(t *testing.T) {
	for verdict, files := range map[playbooks.Verdict]map[string]file{
		playbooks.Absent: nil,
		playbooks.Clean:  {},
		playbooks.Good:   {badly: {good, kind}},
	} {
		w := sick(t, func(w *windows, _ *winrmtest.Options) { w.files = files })
		r, err := repair(t, w, options())
		if err != nil || r.Verdict() != verdict || w.changed {
			t.Errorf("%s: %+v, %v", verdict, r, err)
		}
		var final *remediate.FinalError
		if err := r.Proof(); (verdict == playbooks.Good) != (err == nil) || err != nil && !errors.As(err, &final) {
			t.Errorf("%s: %v", verdict, err)
		}
	}
}

// TestMovedByMistake: what the host moved and the playbook does not call faulty is told.
func TestMovedByMistake(t *testing.T) {
	w := sick(t, func(w *windows, _ *winrmtest.Options) {
		w.onScript = func(w *windows) { w.files[badly] = file{good, kind + "the good one came meanwhile"} }
	})
	if _, err := repair(t, w, options()); err == nil || !strings.Contains(err.Error(), "is not faulty: move it back") {
		t.Error(err)
	}
}

// TestWrongHost: a host that calls itself otherwise is not touched.
func TestWrongHost(t *testing.T) {
	w := sick(t, func(w *windows, _ *winrmtest.Options) { w.name = "H2" })
	d := winrm.New(options())
	if _, err := d.Observe(t.Context(), w.target()); err == nil || !strings.Contains(err.Error(), `calls itself "H2"`) {
		t.Error(err)
	}
	if _, err := repair(t, w, options()); err == nil || !w.broken() {
		t.Errorf("broken %v, %v", w.broken(), err)
	}
}

// TestWrongPassword: accounts lock, so a login is not tried every second.
func TestWrongPassword(t *testing.T) {
	w := sick(t, nil)
	o := options()
	o.Times.Catch = time.Minute
	o.Login = func(context.Context, remediate.Target) (client.Auth, error) {
		return client.NTLM{User: "ops", Password: secret.New("wrong")}, nil
	}
	_, err := winrm.New(o).Observe(t.Context(), w.target())
	var login *client.LoginError
	if !errors.As(err, &login) || w.Count().Accepted != 2 {
		t.Errorf("%v after %d connections", err, w.Count().Accepted)
	}
}

// TestUnsupported: a step that cannot be carried out is said before anything is done.
func TestUnsupported(t *testing.T) {
	w := sick(t, nil)
	pb := library(t)
	pb = &playbooks.Playbook{Name: "x", Steps: append(pb.Steps, &playbooks.Registry{Hive: "SYSTEM", Key: "a", Value: "b"})}
	_, err := winrm.New(options()).Repair(t.Context(), w.target(), pb)
	var final *remediate.FinalError
	if err == nil || errors.As(err, &final) || !w.broken() || w.Count().Accepted > 0 || remediate.Supports(winrm.New(options()), pb) == nil || remediate.Supports(winrm.New(options()), library(t)) != nil {
		t.Errorf("%v", err)
	}
}

// TestSafeMode: the flag goes if it was ours or the playbook says so. A host that somebody else
// has start in Safe Mode stays there.
func TestSafeMode(t *testing.T) {
	ours := `{"entry": "` + running + `"}`
	for name, c := range map[string]struct {
		mark, step, flag, byDefault bool
		bootMark, says              string
		stays                       bool
	}{
		"ours":                              {mark: true, flag: true},
		"ours, and not by default":          {mark: true, flag: true, byDefault: true},
		"ours, on the EFI system partition": {bootMark: "/S", says: ours, flag: true},
		"ours, where BIOS starts from":      {bootMark: volumeHidden, says: ours, flag: true},
		"ours, and cut off after":           {bootMark: "/S", says: ours},
		"ours, by default":                  {bootMark: "/S", says: `{"entry": "` + strings.ToUpper(other) + `"}`, byDefault: true},
		"the playbook's":                    {step: true, flag: true},
		"the playbook's, by default":        {step: true, byDefault: true},
		"somebody else's":                   {flag: true, stays: true},
		"somebody else's, by default":       {byDefault: true, stays: true},
		"ours was for another Windows":      {bootMark: "/S", says: `{"entry": "` + other + `"}`, flag: true, stays: true},
		"the mark makes no sense":           {bootMark: "/S", says: `{"entry": "{current}"}`, flag: true, stays: true},
		"once, by the menu":                 {},
	} {
		t.Run(name, func(t *testing.T) {
			w := sick(t, func(w *windows, _ *winrmtest.Options) {
				w.safeMode, w.flag, w.byDefault, w.mark, w.bootMark, w.says = "0x2", c.flag, c.byDefault, c.mark, c.bootMark, c.says
			})
			pb := library(t)
			if c.step {
				pb = &playbooks.Playbook{Name: "x", Steps: append(pb.Steps, &playbooks.Safeboot{})}
			}
			d := winrm.New(options())
			before, err := d.Observe(t.Context(), w.target())
			if err != nil || before.Detail["safe_mode"] != "network" || before.Detail["boot"] != "2024-07-19T08:00:00Z" {
				t.Fatal(before, err)
			}
			if r, err := d.Repair(t.Context(), w.target(), pb); err != nil || r.Proof() != nil || len(r.Changed()) > 0 != c.step {
				t.Fatalf("%+v, %v", r, err)
			}
			err = d.Leave(t.Context(), w.target(), before)
			if c.stays {
				if err != nil || w.flag != c.flag || w.byDefault != c.byDefault || w.restarts != 0 || w.bootMark != c.bootMark {
					t.Errorf("%v, flags %v %v, %d restarts", err, w.flag, w.byDefault, w.restarts)
				}
			} else if err != nil || w.restarts != 1 || w.safeMode != "" || w.left() != "" {
				t.Errorf("%v, %d restarts, %s, %s", err, w.restarts, w.safeMode, w.left())
			}
		})
	}
}

// TestSecondTreatment: a host that was restarted in this run, and was set to start in Safe Mode
// for a second treatment, is restarted after that one too, once.
func TestSecondTreatment(t *testing.T) {
	for name, attempt := range map[string]int{"in a later attempt": 2, "in the same attempt": 1} {
		t.Run(name, func(t *testing.T) {
			w := sick(t, nil)
			d := winrm.New(options())
			treat := func(target remediate.Target) {
				t.Helper()
				before, err := d.Observe(t.Context(), target)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Repair(t.Context(), target, library(t)); err != nil {
					t.Fatal(err)
				}
				for range 3 { // its end may be lost, and then it is done again
					if err := d.Leave(t.Context(), target, before); err != nil {
						t.Fatal(err)
					}
				}
			}
			target := w.target()
			treat(target)
			if w.restarts != 1 {
				t.Fatalf("%d restarts after the first", w.restarts)
			}
			w.mu.Lock()
			w.boot = w.boot.Add(time.Hour)
			w.safeMode, w.flag, w.bootMark, w.says = "0x2", true, "/S", `{"entry": "`+running+`"}`
			w.mu.Unlock()
			target.Attempt = attempt
			treat(target)
			if w.restarts != 2 || w.safeMode != "" || w.left() != "" {
				t.Errorf("%d restarts, Safe Mode %q, left %q", w.restarts, w.safeMode, w.left())
			}
		})
	}
}

// TestLeaveGone: a host that does not answer is in nobody's way, unless it was in Safe Mode.
func TestLeaveGone(t *testing.T) {
	w := sick(t, nil)
	w.Die()
	d := winrm.New(options())
	if err := d.Leave(t.Context(), w.target(), remediate.Posture{Power: "on"}); err != nil {
		t.Error(err)
	}
	if err := d.Leave(t.Context(), w.target(), remediate.Posture{Detail: map[string]string{"safe_mode": "network"}}); err == nil {
		t.Error("a host in Safe Mode that does not answer was left")
	}
}
