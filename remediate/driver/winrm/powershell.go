package winrm

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"unbrick/playbooks"
	client "unbrick/remediate/winrm"
)

//go:embed repair.ps1
var repairScript string

// A job is what the script is told.
type job struct {
	ID    string    `json:"id"`
	Steps []jobStep `json:"steps"`
}

type jobStep struct {
	Directory string   `json:"directory"` // slashes
	Match     string   `json:"match"`     // regular expression of whole names
	Header    string   `json:"header"`    // hex, upper case
	From      string   `json:"from"`      // .NET ticks, UTC; empty if the time does not matter
	Until     string   `json:"until"`
	SHA256    []string `json:"sha256"` // lower case
	Max       int      `json:"max"`
	Keep      string   `json:"keep"` // directory below that of the run
}

func (p *plan) job() job {
	j := job{ID: p.id, Steps: []jobStep{}}
	for i, r := range p.removals {
		s := jobStep{Directory: r.Directory, Match: pattern(r.Glob), Header: strings.ToUpper(hex.EncodeToString(r.Header)),
			SHA256: []string{}, Max: r.Max, Keep: strconv.Itoa(i)}
		if s.Max == 0 {
			s.Max = playbooks.DefaultMax
		}
		for _, h := range r.SHA256 {
			s.SHA256 = append(s.SHA256, strings.ToLower(h))
		}
		if !r.Written.From.IsZero() || !r.Written.Until.IsZero() {
			s.From, s.Until = ticks(r.Written.From), ticks(r.Written.Until)
		}
		j.Steps = append(j.Steps, s)
	}
	return j
}

// pattern writes a glob as a regular expression that means the same in .NET: ASCII letters of
// either case, everything else as it is.
func pattern(glob string) string {
	var b strings.Builder
	b.WriteString(`\A`)
	for _, c := range []byte(glob) {
		switch {
		case c == '*':
			b.WriteString(`[^\\/]*`)
		case c == '?':
			b.WriteString(`[^\\/]`)
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			fmt.Fprintf(&b, "[%c%c]", c&^0x20, c|0x20)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// ticksAtUnix are the .NET ticks, of 100 ns since the year 1, at the Unix epoch.
const ticksAtUnix = 621355968000000000

func ticks(t time.Time) string {
	return strconv.FormatInt(t.Unix()*1e7+int64(t.Nanosecond())/100+ticksAtUnix, 10)
}

// A noPowerShell says that the script did not run.
type noPowerShell struct{ why string }

func (e *noPowerShell) Error() string { return "PowerShell does not run there: " + e.why }

// powershell carries the plan out by the script.
func (p *plan) powershell(ctx context.Context, s *client.Session) (*survey, error) {
	b, err := json.Marshal(p.job())
	if err != nil {
		return nil, err
	}
	script := strings.Replace(repairScript, "@JOB@", base64.StdEncoding.EncodeToString(b), 1)
	r, err := s.PowerShell(ctx, script)
	if err != nil {
		return nil, err
	}
	sv, err := parseSurvey(string(r.Stdout))
	if err != nil {
		return nil, &noPowerShell{client.Complaint(r.Stderr)}
	}
	return sv, nil
}

var errNoSurvey = errors.New("the host's answer makes no sense")

// parseSurvey reads what the script prints, among whatever else is printed.
func parseSurvey(out string) (*survey, error) {
	_, text, ok := strings.Cut(out, "unbrick:")
	text, _, ok2 := strings.Cut(text, ":unbrick")
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	sv := &survey{}
	if !ok || !ok2 || err != nil || json.Unmarshal(b, sv) != nil || !validRoot(sv.Root) {
		return nil, errNoSurvey
	}
	return sv, nil
}

func validRoot(root string) bool {
	return len(root) > 3 && root[1] == ':' && root[2] == '\\' && !strings.ContainsAny(root, "/\"%\r\n")
}

// UnmarshalJSON reads a file as the script writes it.
func (s *seen) UnmarshalJSON(b []byte) error {
	var f struct {
		Path   string `json:"path"`
		Size   int64  `json:"size"`
		Time   string `json:"time"`
		SHA256 string `json:"sha256"`
		Head   string `json:"head"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	n, err := strconv.ParseInt(f.Time, 10, 64)
	if err != nil {
		return err
	}
	head, err := hex.DecodeString(f.Head)
	if err != nil {
		return err
	}
	n -= ticksAtUnix
	*s = seen{f.Path, f.Size, time.Unix(n/1e7, n%1e7*100).UTC(), f.SHA256, head}
	return nil
}
