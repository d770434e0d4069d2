package lab

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	client "unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

// What stands for PowerShell and cmd.exe: it does to the disk what the command lines of driver
// winrm would have those do, and knows no other. What PowerShell does is told by the job that
// the script carries; the script itself is not read.
var (
	jobIn    = regexp.MustCompile(`FromBase64String\('([A-Za-z0-9+/=]+)'\)`)
	globIn   = regexp.MustCompile(`dir /b /s /a "([^"]+)"`)
	moveIn   = regexp.MustCompile(`move "([^"]+)" "([^"]+)"`)
	existsIn = regexp.MustCompile(`if exist "([^"]+)" type`)
	writeIn  = regexp.MustCompile(`^echo (unbrick boot [^>]*)>"([^"]+)"`)
)

// command runs one command line of WinRM.
func (h *host) command(ctx context.Context, c *winrmtest.Command) int {
	var script []byte
	if c.Line == client.PowerShellLine() {
		script, _ = io.ReadAll(c.Stdin)
	}
	h.shell.Lock()
	defer h.shell.Unlock()
	if ctx.Err() != nil {
		return 1
	}
	is := func(prefix string) bool { return strings.HasPrefix(c.Line, prefix) }
	switch {
	case script != nil:
		fmt.Fprintf(c.Stdout, "unbrick:%s:unbrick\r\n", base64.StdEncoding.EncodeToString(h.powershell(script)))
	case is("echo %COMPUTERNAME%"):
		fmt.Fprint(c.Stdout, h.Name+"\r\n")
		return 1 // reg's: not in Safe Mode
	case is("bcdedit /enum"):
		fmt.Fprint(c.Stdout, "osdevice                partition=C:\r\n")
	case is("echo off& echo unbrick root "):
		h.look(c)
	case moveIn.MatchString(c.Line):
		m := moveIn.FindStringSubmatch(c.Line)
		h.move(onDisk(m[1]), onDisk(m[2]))
	case existsIn.MatchString(c.Line):
		mark := onDisk(existsIn.FindStringSubmatch(c.Line)[1])
		if entries, err := fs.ReadDir(h.disk, path.Dir(mark)); err == nil && len(entries) > 0 {
			fmt.Fprint(c.Stdout, "unbrick changed\r\n")
		}
		if b, err := fs.ReadFile(h.disk, mark); err == nil {
			c.Stdout.Write(b)
		}
	case is("echo unbrick boot "):
		m := writeIn.FindStringSubmatch(c.Line)
		h.disk.Add(onDisk(m[2]), time.Now(), []byte(m[1]+"\r\n"))
	case is("shutdown /r"):
		h.windows.order()
	default:
		fmt.Fprint(c.Stderr, "'", c.Line, "' is not recognized as an internal or external command\r\n")
		return 9009
	}
	return 0
}

// onDisk returns where a path of a command line is on the volume.
func onDisk(name string) string {
	return strings.NewReplacer(`%SystemRoot%`, "Windows", `%SystemDrive%\`, "", `C:\`, "", `\`, "/").Replace(name)
}

// A shellFile is a file as the script tells of it.
type shellFile struct {
	Path   string `json:"path"`
	Size   int    `json:"size"`
	Time   string `json:"time"`
	SHA256 string `json:"sha256"`
	Head   string `json:"head"`

	name    string // on the volume
	mtime   time.Time
	content []byte
}

// see lists the files of a folder whose names match, with so many bytes of their heads.
func (h *host) see(dir string, match func(string) bool, head int) []shellFile {
	list := []shellFile{}
	entries, _ := fs.ReadDir(h.disk, dir) // one that is not there has none
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := e.Info()
		b, readErr := fs.ReadFile(h.disk, name)
		if err != nil || readErr != nil || !match(e.Name()) {
			continue
		}
		sum := sha256.Sum256(b)
		list = append(list, shellFile{
			Path: `C:\` + strings.ReplaceAll(name, "/", `\`), Size: len(b), Time: ticks(info.ModTime()), SHA256: hex.EncodeToString(sum[:]),
			Head: strings.ToUpper(hex.EncodeToString(b[:min(len(b), head)])), name: name, mtime: info.ModTime(), content: b,
		})
	}
	return list
}

// ticks are those of .NET: 100 ns since the year 1.
func ticks(t time.Time) string {
	return strconv.FormatInt(t.Unix()*1e7+int64(t.Nanosecond())/100+621355968000000000, 10)
}

// move moves a file as NTFS does: its content and its time stay. Nothing is overwritten.
func (h *host) move(from, to string) {
	info, err := fs.Stat(h.disk, from)
	if err != nil || h.disk.Has(to) {
		return
	}
	b, err := fs.ReadFile(h.disk, from)
	if err == nil {
		h.disk.Add(to, info.ModTime(), b)
		h.disk.Remove(from)
		h.log.write(h.Name, "moved away", path.Base(from))
	}
}

// A shellJob is what the script is told.
type shellJob struct {
	ID    string
	Steps []shellStep
}

type shellStep struct {
	Directory, Match, Header, From, Until string
	SHA256                                []string
	Max                                   int
	Keep                                  string
}

// powershell does the script's job and returns its answer, as JSON.
func (h *host) powershell(input []byte) []byte {
	var job shellJob
	script, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(input), "\r\n", ""))
	if m := jobIn.FindSubmatch(script); err == nil && m != nil {
		b, _ := base64.StdEncoding.DecodeString(string(m[1]))
		err = json.Unmarshal(b, &job)
	}
	answer := map[string]any{"root": `C:\Windows`, "error": ""}
	if err != nil {
		answer["error"] = err.Error()
	}
	standings := []any{}
	for _, s := range job.Steps {
		standings = append(standings, h.step(job.ID, s, answer))
	}
	answer["steps"] = standings
	b, _ := json.Marshal(answer)
	return b
}

// step moves the faulty files of one step away, and says how it stands then.
func (h *host) step(id string, s shellStep, answer map[string]any) map[string]any {
	dir, keep := path.Join("Windows", s.Directory), path.Join("ProgramData/unbrick", id, s.Keep)
	match, head := regexp.MustCompile(s.Match).MatchString, len(s.Header)/2
	todo := slices.DeleteFunc(h.see(dir, match, head), func(f shellFile) bool { return !s.faulty(f) })
	kept := func() []shellFile { return h.see(keep, func(string) bool { return true }, head) }
	if len(todo) > s.Max {
		answer["error"] = fmt.Sprintf("%d files are faulty and at most %d are expected: nothing is moved", len(todo), s.Max)
		todo = nil
	}
	for _, f := range todo {
		h.move(f.name, path.Join(keep, fmt.Sprintf("%d~%s", len(kept())+1, path.Base(f.name))))
	}
	_, err := fs.Stat(h.disk, dir)
	return map[string]any{"there": err == nil, "files": h.see(dir, match, head), "kept": kept()}
}

func (s shellStep) faulty(f shellFile) bool {
	return f.Head == s.Header && (slices.Contains(s.SHA256, f.SHA256) ||
		s.From != "" && len(f.Time) == len(s.From) && f.Time >= s.From && f.Time < s.Until)
}

// look prints what the plain form asks for: each file with its content as certutil writes it
// and its time as wmic does.
func (h *host) look(c *winrmtest.Command) {
	fmt.Fprint(c.Stdout, "unbrick root C:\\Windows\r\n")
	for i, m := range globIn.FindAllStringSubmatch(c.Line, 2) {
		dir, glob := path.Split(onDisk(m[1]))
		dir = path.Clean(dir)
		what := "kept"
		if i == 0 {
			what = "file"
			if _, err := fs.Stat(h.disk, dir); err == nil {
				fmt.Fprint(c.Stdout, "unbrick there\r\n")
			}
		}
		match := func(name string) bool {
			ok, _ := path.Match(strings.ToLower(glob), strings.ToLower(name))
			return ok
		}
		for _, f := range h.see(dir, match, 0) {
			fmt.Fprintf(c.Stdout, "unbrick %s %d --a------ %s\r\n-----BEGIN CERTIFICATE-----\r\n%s\r\n-----END CERTIFICATE-----\r\nLastModified=%s+000\r\n",
				what, f.Size, f.Path, base64.StdEncoding.EncodeToString(f.content), f.mtime.UTC().Format("20060102150405.000000"))
		}
	}
	fmt.Fprint(c.Stdout, "unbrick end\r\n")
}
