package winrm

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/masterzen/winrm/soap"
)

// keyLike is a recovery key of BitLocker, or a part of it.
var keyLike = regexp.MustCompile(`\b\d{6}(-\d{6})+\b`)

// Facts are how Windows runs.
type Facts struct {
	Name     string    // NetBIOS name, as the host calls itself
	Boot     time.Time // when it was started; zero if the host does not say
	OS       string    // "Microsoft Windows Server 2019 Standard 10.0.17763", in the host's language
	SafeMode string    // "minimal", "network", or empty for a normal start
}

// Facts asks how Windows runs. Neither PowerShell nor a language that we know is needed.
func (s *Session) Facts(ctx context.Context) (Facts, error) {
	var f Facts
	if err := s.system(ctx, &f); err != nil {
		return f, explain(ctx, s.addr, err)
	}
	// The key is made by the kernel in Safe Mode alone. An exit code would be reg's.
	r, err := s.Run(ctx, `echo %COMPUTERNAME%& reg query "HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\Option" /v OptionValue 2>nul`, nil)
	if err != nil {
		return f, err
	}
	name, out, _ := strings.Cut(string(r.Stdout), "\n")
	f.Name = oneLine(name, 64)
	switch {
	case strings.Contains(out, "0x1"), strings.Contains(out, "0x3"): // 3: domain controllers
		f.SafeMode = "minimal"
	case strings.Contains(out, "0x2"):
		f.SafeMode = "network"
	}
	return f, nil
}

const wmi = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/"

// system reads Win32_OperatingSystem. A host that refuses leaves f as it is.
func (s *Session) system(ctx context.Context, f *Facts) error {
	var id [16]byte
	rand.Read(id[:])
	m := soap.NewMessage()
	m.Header().To(s.addr.url()).ReplyTo("http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous").
		MaxEnvelopeSize(maxEnvelope).Id(fmt.Sprintf("uuid:%X-%X-%X-%X-%X", id[:4], id[4:6], id[6:8], id[8:10], id[10:])).
		Locale("en-US").Timeout(iso(s.opt.Times.Operation)).
		Action("http://schemas.xmlsoap.org/ws/2004/09/transfer/Get").ResourceURI(wmi + "Win32_OperatingSystem").Build()
	m.NewBody()
	answer, err := s.wire.post(ctx, []byte(m.String()))
	var fault *FaultError
	if errors.As(err, &fault) {
		return nil
	}
	if err != nil {
		return err
	}
	var e struct {
		OS *struct {
			Caption string `xml:"Caption"`
			Version string `xml:"Version"`
			Boot    string `xml:"LastBootUpTime>Datetime"`
		} `xml:"Body>Win32_OperatingSystem"`
	}
	if err := xml.Unmarshal([]byte(answer), &e); err != nil || e.OS == nil {
		return answered("", err)
	}
	f.OS = oneLine(e.OS.Caption+" "+e.OS.Version, 100)
	if t, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(e.OS.Boot)); err == nil {
		f.Boot = t.UTC()
	}
	return nil
}
