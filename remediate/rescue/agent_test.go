package rescue_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// clean is a volume that the playbook has nothing to do on.
func clean(files ...string) *volumetest.Volume {
	v := volumetest.New().Add("Windows/System32/config/SYSTEM", at(1, 0), []byte("regf"))
	for _, f := range files {
		v.Add(f, at(5, 27), channel("good"))
	}
	return v
}

func TestNothingIsOpenedForWritingInVain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		v     *volumetest.Volume
		dry   bool
		want  playbooks.Verdict
		fails string
	}{
		{"good", clean(good), false, playbooks.Good, ""},
		{"clean", clean(folder + "other.sys"), false, playbooks.Clean, "nothing found"},
		{"absent", clean(), false, playbooks.Absent, "nothing found"},
		{"no Windows", volumetest.New(), false, playbooks.Absent, "nothing found"},
		{"dry run", windows(), true, playbooks.Both, "dry run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) {
				l.machine.volumes[0].v = tt.v
				l.cfg.Terms = func(remediate.Target) rescue.Terms { return rescue.Terms{DryRun: tt.dry} }
			})
			before := tt.v.Files()
			rep, err, _ := l.repair()
			if rep.Verdict() != tt.want || (err == nil) != (tt.fails == "") || rep.DryRun != tt.dry {
				t.Errorf("%+v, %v", rep, err)
			}
			if err != nil {
				wantErr(t, err, tt.fails)
			}
			if l.machine.volumes[0].writes != 0 || len(tt.v.Files()) != len(before) {
				t.Error("the volume was opened for writing")
			}
		})
	}
}

// What is wrong with one volume is in the report, and the others are repaired.
func TestVolumesFailAlone(t *testing.T) {
	l := newLab(t, func(l *lab) {
		l.machine.volumes = []*volume{
			{name: "broken", v: windows(), err: errors.New("bad sector")},
			{name: "panics", v: windows()},
			{name: "C", v: windows()},
		}
		l.machine.volumes[1].v.Intercept(func(op volumetest.Op, name string) error { var m map[string]int; m[name]++; return nil })
	})
	rep, err, a := l.repair()
	if err != nil || a.err != nil || len(rep.Result.Removed()) != 1 {
		t.Fatalf("%+v, %v, %v", rep, err, a.err)
	}
	wantErr(t, errors.New(rep.Volumes[0].Error), "bad sector")
	wantErr(t, errors.New(rep.Volumes[1].Error), "broke down", "nil map", "TestVolumesFailAlone")
	if l.machine.volumes[2].v.Has(bad) || !l.machine.volumes[0].v.Has(bad) {
		t.Error("the wrong one was repaired")
	}
}

// A volume that is locked in a way that the agent does not know may be opened by another way.
func TestLockedForUnknownReasons(t *testing.T) {
	l := newLab(t, func(l *lab) { l.machine.volumes[0].err = fmt.Errorf("%w: no protector is known", agent.ErrLocked) })
	rep, err, _ := l.repair()
	wantErr(t, err, "another way may open it", "no protector")
	if final(err) || rep.Verdict() != playbooks.Locked {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestHibernated(t *testing.T) {
	l := newLab(t, func(l *lab) { l.machine.volumes[0].werr = errors.New("Windows is hibernated") })
	rep, err, _ := l.repair()
	wantErr(t, err, "not all is repaired", "hibernated")
	if final(err) || rep.Verdict() != playbooks.Both || len(rep.Result.Left()) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// A repair that does not hold is not called one.
func TestVerify(t *testing.T) {
	for name, after := range map[string]func(v *volumetest.Volume){
		"is not as it was": func(v *volumetest.Volume) { v.Add(good, at(5, 27), channel("changed")) },
		"is still there":   func(v *volumetest.Volume) { v.Add(folder+"C-00000291-1.sys", at(4, 30), channel("back")) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			v := l.machine.volumes[0].v
			var once sync.Once
			v.Intercept(func(op volumetest.Op, n string) error {
				if op == volumetest.Remove {
					once.Do(func() { after(v) })
				}
				return nil
			})
			rep, err, _ := l.repair()
			wantErr(t, err, "not all is repaired", name)
			if len(rep.Result.Removed()) != 1 {
				t.Errorf("what was removed is still told: %+v", rep)
			}
		})
	}
}

func TestEscrowComesBack(t *testing.T) {
	l := lockedLab(t, nil)
	l.escrow.err = errors.New("connection refused")
	go func() {
		l.logs.wait("connection refused")
		l.escrow.mu.Lock()
		l.escrow.err = nil
		l.escrow.mu.Unlock()
	}()
	rep, err, _ := l.repair()
	if err != nil || len(rep.Result.Removed()) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestEscrowStaysAway(t *testing.T) {
	l := lockedLab(t, nil)
	l.escrow.err = errors.New("connection refused")
	cfg := l.boot()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	done := l.goAgent(cfg)
	rep, err := l.s.Repair(ctx, l.target, l.pb)
	wantErr(t, err, "another way may open it", l.machine.volumes[0].protectors[0])
	if final(err) || rep.Verdict() != playbooks.Locked {
		t.Errorf("%+v, %v", rep, err)
	}
	<-done
}

func TestNoKeyAndWrongKey(t *testing.T) {
	l := lockedLab(t, nil)
	l.escrow.filed = nil
	_, err, _ := l.repair()
	if !final(err) {
		t.Errorf("%v is not final", err)
	}
	wantErr(t, err, "locked", l.machine.volumes[0].protectors[0], "no recovery key on record")

	l = lockedLab(t, nil)
	l.machine.volumes[0].key = filing("").Key
	_, err, _ = l.repair()
	wantErr(t, err, "does not open the volume")
}

// Two escrows with different keys for one protector: neither is given, and asking again would
// not help.
func TestEscrowsDisagree(t *testing.T) {
	l := lockedLab(t, func(l *lab) {
		other := l.escrow.filed[0]
		other.Key = filing("").Key
		l.cfg.Broker.Sources = append(l.cfg.Broker.Sources, &escrow{filed: []keytest.Filing{other}})
	})
	rep, err, _ := l.repair()
	if !final(err) || rep.Verdict() != playbooks.Locked || len(rep.Released) != 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	wantErr(t, err, "two escrows have different keys", l.machine.volumes[0].protectors[0])
}

// The second of two protectors opens the volume, and no key but that is released.
func TestTwoProtectors(t *testing.T) {
	l := lockedLab(t, nil)
	c := l.machine.volumes[0]
	c.protectors = append([]string{filing("").ID.String()}, c.protectors...)
	rep, err, _ := l.repair()
	if err != nil || len(rep.Released) != 1 || rep.Released[0] != l.escrow.filed[0].ID.String() || len(l.ledger.releases) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// The quarantine refuses for a while: nothing is removed before it took the file.
func TestQuarantineFirst(t *testing.T) {
	l := newLab(t, nil)
	dir := filepath.Join(l.cfg.Dir, "quarantine")
	if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	v := l.machine.volumes[0].v
	var early atomic.Bool
	v.Intercept(func(op volumetest.Op, _ string) error {
		if info, err := os.Stat(dir); op == volumetest.Remove && (err != nil || !info.IsDir()) {
			early.Store(true)
		}
		return nil
	})
	go func() {
		l.logs.wait("cannot quarantine a file")
		os.Remove(dir)
		os.Mkdir(dir, 0o700)
	}()
	rep, err, _ := l.repair()
	if err != nil || early.Load() || len(rep.Result.Removed()) != 1 {
		t.Errorf("%+v, %v, removed too early: %t", rep, err, early.Load())
	}
}

func TestQuarantineTooLarge(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.MaxQuarantine = 10 })
	rep, err, _ := l.repair()
	wantErr(t, err, "larger than the 10 bytes", "nothing is removed")
	if !l.has(bad) || len(rep.Result.Removed()) != 0 {
		t.Error("removed without a copy")
	}
}

func TestQuarantine(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.boot()
	l.atRepair(cfg)
	r := newRaw(t, l, cfg)
	r.want(200, "", "POST", "/v1/hello", r.hello())
	const sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" // of "x"
	put := func(code int, word, name, content string) {
		t.Helper()
		r.want(code, word, "PUT", "/v1/quarantine/"+name, []byte(content))
	}
	put(204, "", sum, "x")
	put(204, "", sum, "x")
	put(422, "changed", sum, "y")
	put(400, "lower-case hex", strings.ToUpper(sum), "x")
	put(400, "lower-case hex", "..%2f..%2fserver.key", "x")
	entries, err := os.ReadDir(filepath.Join(l.cfg.Dir, "quarantine"))
	if err != nil || len(entries) != 2 || entries[0].Name() != sum {
		t.Errorf("in the quarantine: %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode()&fs.ModePerm != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// A host whose clock is a day off repairs all the same: it goes by the time that is left.
func TestDeadlineByBudget(t *testing.T) {
	l := newLab(t, func(l *lab) {
		l.cfg = l.cfg.Around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				answer := rec.Body.String()
				if i := strings.Index(answer, `"deadline":"20`); i > 0 {
					answer = answer[:i] + `"deadline":"19` + answer[i+len(`"deadline":"20`):]
				}
				w.WriteHeader(rec.Code)
				w.Write([]byte(answer))
			})
		})
	})
	rep, err, _ := l.repair()
	if err != nil || len(rep.Result.Removed()) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// No time left: nothing is begun, and that is reported.
func TestNoTimeLeft(t *testing.T) {
	l := newLab(t, func(l *lab) {
		l.cfg = l.cfg.Around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				w.WriteHeader(rec.Code)
				head, tail, found := strings.Cut(rec.Body.String(), `"budget":`)
				if found {
					_, tail, _ = strings.Cut(tail, ",")
					head += `"budget":0,`
				}
				w.Write([]byte(head + tail))
			})
		})
	})
	_, err, a := l.repair()
	wantErr(t, err, "no time left")
	if a.err != nil || !l.has(bad) {
		t.Errorf("agent: %v", a.err)
	}
}

// A host that is switched off says nothing more.
func TestSwitchedOff(t *testing.T) {
	l := newLab(t, nil)
	ctx, off := context.WithCancel(t.Context())
	l.machine.volumes[0].v.Intercept(func(volumetest.Op, string) error { off(); return nil })
	cfg := l.boot()
	waiting := l.atRepair(cfg)
	_, err := agent.Run(ctx, l.machine, cfg, quick)
	wantErr(t, err, "stopped before the report")
	l.s.Close()
	wantErr(t, (<-waiting).err, "server was closed")
	for key := range l.records.All() {
		if strings.HasPrefix(key, "report/") {
			t.Error("it reported")
		}
	}
	if !l.has(bad) {
		t.Error("it removed")
	}
}

func TestBadConfig(t *testing.T) {
	ok := wire.Config{URL: "https://127.0.0.1:1", Pin: strings.Repeat("0", 64), Token: "t"}
	for word, change := range map[string]func(c *wire.Config){
		"where":     func(c *wire.Config) { c.URL = "http://127.0.0.1" },
		"which key": func(c *wire.Config) { c.Pin = "00" },
	} {
		c := ok
		change(&c)
		_, err := agent.Run(t.Context(), &machine{}, c, quick)
		wantErr(t, err, word)
	}
}
