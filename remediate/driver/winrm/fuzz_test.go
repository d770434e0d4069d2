package winrm

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
)

// FuzzLook: whatever a host prints, every file of a survey was read whole and has a time.
func FuzzLook(f *testing.F) {
	f.Add("unbrick root C:\\Windows\r\nunbrick there\r\nunbrick file 3 --a------ C:\\Windows\\d\\x.sys\r\n-----BEGIN CERTIFICATE-----\r\nYWJj\r\n-----END CERTIFICATE-----\r\n" +
		"\r\r\nLastModified=20240719060955.123456+120\r\r\nunbrick kept 0 d-------- C:\\k\\0\r\nunbrick end\r\n")
	f.Add("unbrick root C:\\Windows\r\nunbrick file 1 - C:\\Windows\\d\\y\r\nunbrick end\r\n")
	f.Fuzz(func(t *testing.T, out string) {
		_, st, err := parseLook([]byte(out), "d")
		if err != nil {
			return
		}
		for _, s := range append(st.Files, st.Kept...) {
			if len(s.SHA256) != 64 || s.Time.IsZero() || s.Size < 0 || s.Size > maxPlain || s.Size < 64 && s.Size != int64(len(s.Head)) {
				t.Fatalf("%+v", s)
			}
			if sum := sha256.Sum256(s.Head); s.Size < 64 && hex.EncodeToString(sum[:]) != s.SHA256 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// FuzzSurvey: whatever a host prints, judging it neither panics nor calls a file removed that
// the playbook does not call faulty.
func FuzzSurvey(f *testing.F) {
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		f.Fatal(err)
	}
	p, err := compile("r1", pb)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`{"root":"C:\\Windows","error":"","steps":[{"there":true,"files":[{"path":"C:\\x\\C-00000291-1.sys","size":8,"time":"638569301950000000","sha256":"","head":"AAAAAAAA01002301"}],"kept":[]}]}`)
	f.Add(`{"root":"C:\\Windows","steps":[{"there":true,"kept":[{"path":"1~C-00000291-1.sys","size":0,"time":"0","sha256":"` + strings.Repeat("0", 64) + `","head":""}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		sv, err := parseSurvey("unbrick:" + base64.StdEncoding.EncodeToString([]byte(text)) + ":unbrick")
		if err != nil {
			return
		}
		found, err := p.judge(sv)
		if err != nil || p.misplaced(sv) != nil {
			return
		}
		for _, fd := range found {
			for _, file := range fd.Files {
				if file.Removed && !file.Faulty {
					t.Fatalf("%+v", file)
				}
			}
		}
	})
}

// FuzzPattern: the regular expression means what the glob means.
func FuzzPattern(f *testing.F) {
	f.Add("C-00000291*.sys", "c-00000291-1.SYS")
	f.Add("a?c.{1}", "aXC.{1}")
	f.Fuzz(func(t *testing.T, glob, name string) {
		if (&playbooks.Remove{Directory: "d", Glob: glob, SHA256: []string{strings.Repeat("0", 64)}}).Validate() != nil {
			return
		}
		for _, c := range name {
			if c > '~' || c < ' ' || strings.ContainsRune(`/\`, c) {
				return
			}
		}
		want, err := path.Match(strings.ToLower(glob), strings.ToLower(name))
		if got := regexp.MustCompile(pattern(glob)).MatchString(name); err == nil && got != want {
			t.Fatalf("%q and %q: %v", glob, name, got)
		}
	})
}

func TestTimes(t *testing.T) {
	at := time.Date(2024, 7, 19, 4, 9, 55, 123456700, time.UTC)
	for _, minutes := range []int{0, 120, -420, 330} {
		text := at.Add(time.Duration(minutes)*time.Minute).Format("20060102150405.000000") + fmt.Sprintf("%+04d", minutes)
		got, err := cimTime(text)
		if err != nil || !got.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "20240719040955.123456", "20240719040955.123456*120", "20240719040955.123456+1x0", "2024-07-19T04:09:55.1+120"} {
		if got, err := cimTime(bad); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
	var s seen
	err := s.UnmarshalJSON([]byte(`{"path":"x","time":"` + ticks(at) + `","head":""}`))
	if err != nil || !s.Time.Equal(at) {
		t.Errorf("%s, %v", s.Time, err)
	}
}
