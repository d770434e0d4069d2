package winrm_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/lab/testenv/powershell"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

const password = "correct horse battery"

// A file is one of a fake host.
type file struct {
	time    time.Time
	content string
}

// A windows is a host that does, without PowerShell or cmd.exe, what the driver's commands
// would have those do. What the script does, it does by the job that the script is given.
type windows struct {
	*winrmtest.Server

	mu        sync.Mutex
	name      string
	files     map[string]file // in the step's directory; nil if it is not there
	kept      map[string]file
	changed   bool   // the run's directory is there
	restart   string // what restarted.txt holds
	boot      time.Time
	safeMode  string // what the kernel says
	flag      bool   // safeboot in the boot entry
	byDefault bool   // safeboot in the entry that starts by default, which is another then
	mark      bool   // and it was ours
	bootMark  string // the same, beside the boot store; "/S" or the name of the volume it is on
	mountAt   string // where that volume is mounted
	says      string // the mark's content
	noPS      bool
	restarts  int
	lines     []string
	onScript  func(w *windows) // called while a script runs, between look and move; holds mu
	started   func()           // called when it starts normally
}

const (
	kind  = "\xaa\xaa\xaa\xaa\x01\x00\x23\x01"
	badly = "C-00000291-00000000-00000032.sys"
)

var (
	bad  = time.Date(2024, 7, 19, 4, 9, 55, 123456700, time.UTC)
	good = time.Date(2024, 7, 19, 5, 30, 0, 0, time.UTC)
)

// sick is a host with one faulty file, a good one, and others.
func sick(t testing.TB, change func(*windows, *winrmtest.Options)) *windows {
	t.Helper()
	w := &windows{name: "H1", boot: time.Date(2024, 7, 19, 8, 0, 0, 0, time.UTC), kept: map[string]file{}, started: func() {}, files: map[string]file{
		badly:                              {bad, kind + "faulty"},
		"C-00000291-00000000-00000033.sys": {good, kind + "good"},
		"C-00000285-00000000-00000001.sys": {bad, kind + "another channel"},
	}}
	o := winrmtest.Options{User: "ops", Password: password, Handler: w.run, WMI: func(string) map[string]any {
		w.mu.Lock()
		defer w.mu.Unlock()
		return map[string]any{"Caption": "Windows", "Version": "10.0", "LastBootUpTime": w.boot}
	}}
	if change != nil {
		change(w, &o)
	}
	s, err := winrmtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Server = s
	return w
}

func (w *windows) target() remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1.corp.example"},
		Route: inventory.Route{Driver: "winrm", Address: w.URL()}}
}

func options() winrm.Options {
	return winrm.Options{
		Login: func(context.Context, remediate.Target) (client.Auth, error) {
			return client.NTLM{User: "ops", Password: secret.New(password)}, nil
		},
		TLS:   tlspin.Policy{Mode: tlspin.Insecure},
		Times: winrm.Times{Catch: 400 * time.Millisecond, Leave: 200 * time.Millisecond, Every: 5 * time.Millisecond, Silence: 3 * time.Second},
	}
}

func library(t testing.TB) *playbooks.Playbook {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

// harm says what is gone that should be there.
func (w *windows) harm() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range []string{"C-00000291-00000000-00000033.sys", "C-00000285-00000000-00000001.sys"} {
		if _, ok := w.files[name]; !ok {
			return name + " is gone"
		}
	}
	if _, there := w.files[badly]; !there && len(w.kept) == 0 {
		return "the faulty file was not kept"
	}
	return ""
}

func (w *windows) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.files[badly]
	return ok
}

// run is the host's handler.
func (w *windows) run(ctx context.Context, c *winrmtest.Command) int {
	var script []byte
	if c.Line == client.PowerShellLine() {
		script, _ = io.ReadAll(c.Stdin)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return 1
	}
	w.lines = append(w.lines, c.Line)
	is := func(prefix string) bool { return strings.HasPrefix(c.Line, prefix) }
	say := func(text string) int { fmt.Fprint(c.Stdout, text+"\r\n"); return 0 }
	switch {
	case script != nil && w.noPS:
		fmt.Fprint(c.Stderr, "'powershell.exe' is not recognized as an internal or external command")
		return 9009
	case script != nil:
		return say("a banner\r\n" + w.powershell(script))
	case is("echo %COMPUTERNAME%"):
		if w.safeMode == "" {
			say(w.name)
			return 1
		}
		return say(w.name + "\r\n    OptionValue    REG_DWORD    " + w.safeMode)
	case is("bcdedit /enum"):
		return say(w.bcdedit())
	case is("bcdedit /deletevalue " + running + " safeboot"):
		w.flag = false
	case is("bcdedit /deletevalue " + other + " safeboot"):
		w.byDefault = false
	case is("mountvol& for %d in"):
		return say("usage, in any language\r\n\r\n    " + volumeC + "\r\n        C:\\\r\n\r\n    " + volumeHidden + "\r\n        *** KEINE BEREITSTELLUNGSPUNKTE ***\r\nfree Y:\r\nfree X:")
	case is("mountvol Y: "):
		if where, _, _ := strings.Cut(strings.TrimPrefix(c.Line, "mountvol Y: "), "&&"); !strings.HasSuffix(c.Line, "& mountvol Y: /D)") {
			w.mountAt = "Y:"
		} else {
			return w.atBoot(c.Line, where, say)
		}
	case is("(echo unbrick looked)"):
		return say("unbrick looked")
	case is("if exist") && strings.Contains(c.Line, "safeboot.txt"):
		if w.mark {
			say("ours")
		}
	case is("del") && strings.Contains(c.Line, "safeboot.txt"):
		w.mark = false
	case is("if not exist") && strings.Contains(c.Line, "mkdir"):
		w.changed = true
	case is("echo off& (if exist") && strings.Contains(c.Line, "unbrick changed"):
		if w.changed {
			say("unbrick changed")
		}
		if w.restart != "" {
			say(w.restart)
		}
	case is("echo unbrick boot "):
		w.restart, _, _ = strings.Cut(strings.TrimPrefix(c.Line, "echo "), ">")
	case is("shutdown /r"):
		w.restarts++
		w.flag = w.flag || w.byDefault // it starts by default
		w.boot = w.boot.Add(10 * time.Minute)
		if !w.flag {
			w.safeMode = ""
			w.started()
		}
	default:
		fmt.Fprint(c.Stderr, "unknown: ", c.Line)
		return 1
	}
	return 0
}

var jobIn = regexp.MustCompile(`FromBase64String\('([A-Za-z0-9+/=]+)'\)`)

// powershell does the script's job and returns what it prints.
func (w *windows) powershell(input []byte) string {
	script, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(input), "\r\n", ""))
	if err := powershell.Check(string(script)); err != nil {
		return err.Error()
	}
	var j struct {
		Steps []struct {
			Match, Header, From, Until string
			SHA256                     []string
			Max                        int
		}
	}
	b, _ := base64.StdEncoding.DecodeString(string(jobIn.FindSubmatch(script)[1]))
	if err := json.Unmarshal(b, &j); err != nil {
		return err.Error()
	}
	s := j.Steps[0]
	match := regexp.MustCompile(s.Match)
	type m = map[string]any
	see := func(all map[string]file) []m {
		list := []m{}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if _, bare, ok := strings.Cut(name, "~"); !match.MatchString(name) && (!ok || !match.MatchString(bare)) {
				continue
			}
			f := all[name]
			sum := sha256.Sum256([]byte(f.content))
			list = append(list, m{"path": `C:\x\` + name, "size": len(f.content), "sha256": hex.EncodeToString(sum[:]),
				"time": ticks(f.time), "head": strings.ToUpper(hex.EncodeToString([]byte(f.content[:min(len(f.content), len(s.Header)/2)])))})
		}
		return list
	}
	faulty := func(f m) bool {
		from, _ := strconv.ParseInt(s.From, 10, 64)
		until, _ := strconv.ParseInt(s.Until, 10, 64)
		at, _ := strconv.ParseInt(f["time"].(string), 10, 64)
		return f["head"] == s.Header && (slices.Contains(s.SHA256, f["sha256"].(string)) || s.From != "" && at >= from && at < until)
	}
	answer := m{"root": `C:\Windows`, "error": ""}
	todo := slices.DeleteFunc(see(w.files), func(f m) bool { return !faulty(f) })
	if w.onScript != nil {
		w.onScript(w)
	}
	if len(todo) > s.Max {
		answer["error"] = "too many"
		todo = nil
	}
	for _, f := range todo {
		name := strings.TrimPrefix(f["path"].(string), `C:\x\`)
		w.kept[fmt.Sprintf("%d~%s", len(w.kept)+1, name)] = w.files[name]
		delete(w.files, name)
		w.changed = true
	}
	answer["steps"] = []m{{"there": w.files != nil, "files": see(w.files), "kept": see(w.kept)}}
	b, _ = json.Marshal(answer)
	return "unbrick:" + base64.StdEncoding.EncodeToString(b) + ":unbrick"
}

func ticks(t time.Time) string {
	return strconv.FormatInt(t.Unix()*1e7+int64(t.Nanosecond())/100+621355968000000000, 10)
}

const (
	running      = "{7254a080-1510-4e85-ac0f-e7fb3d444736}"
	other        = "{8254a080-1510-4e85-ac0f-e7fb3d444736}"
	volumeC      = `\\?\Volume{11111111-0000-0000-0000-100000000000}\`
	volumeHidden = `\\?\Volume{22222222-0000-0000-0000-100000000000}\`
)

// bcdedit is what a German one prints of the entry that runs and the one that starts by default.
func (w *windows) bcdedit() string {
	entry := func(id string, safe bool) string {
		flag := ""
		if safe {
			flag = "safeboot                Network\r\n"
		}
		return "\r\nWindows-Startladeprogramm\r\n-------------------------\r\nBezeichner              " + id +
			"\r\ndevice                  partition=C:\r\nrecoverysequence        {9254a080-1510-4e85-ac0f-e7fb3d444736}\r\n" + flag
	}
	if w.byDefault {
		return entry(running, w.flag) + entry(other, true)
	}
	return entry(running, w.flag) + entry(running, w.flag)
}

// atBoot does what a line does with the mark on a volume that it mounts. A host has an EFI
// system partition if its mark is there.
func (w *windows) atBoot(line, volume string, say func(string) int) int {
	if volume == "/S" && w.bootMark != "/S" || volume != w.bootMark && volume != volumeHidden {
		say("the parameter is wrong")
		return 1
	}
	say("unbrick looked")
	if w.bootMark == volume && strings.Contains(line, ` del /f "Y:\EFI\Microsoft\Boot\unbrick-safeboot.json"`) {
		w.bootMark = ""
	}
	if w.bootMark == volume && strings.Contains(line, ` type "Y:\EFI\Microsoft\Boot\unbrick-safeboot.json"`) {
		say(w.says)
	}
	return 0
}

// left says what is left of a start in Safe Mode.
func (w *windows) left() string {
	switch {
	case w.flag || w.byDefault:
		return "the Safe Mode flag"
	case w.mark || w.bootMark != "":
		return "a mark"
	case w.mountAt != "":
		return "a letter"
	}
	return ""
}
