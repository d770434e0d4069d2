package winrm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/winrm/winrmtest"
)

const pywinrm = `
import sys, winrm
p = winrm.protocol.Protocol(endpoint=sys.argv[1], transport=sys.argv[2], username=sys.argv[3], password=sys.argv[4],
    server_cert_validation='ignore', message_encryption=sys.argv[5], operation_timeout_sec=1, read_timeout_sec=9)
shell = p.open_shell()
for line, args in (('hello', ()), ('print', ('100000',)), ('exit 3', ())):
    c = p.run_command(shell, line, args)
    out, err, code = p.get_command_output(shell, c)
    p.cleanup_command(shell, c)
    print(len(out), err.decode(), code)
p.close_shell(shell)
`

// legacy lets Python's OpenSSL have MD4, without which there is no NTLM.
const legacy = `openssl_conf = init
[init]
providers = providers
[providers]
default = on
legacy = on
[on]
activate = 1
`

// TestPywinrm: a client that nobody here wrote takes winrmtest for Windows.
func TestPywinrm(t *testing.T) {
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/winrm", "/usr/lib/python3/dist-packages/requests_ntlm")
	conf := filepath.Join(t.TempDir(), "openssl.cnf")
	if err := os.WriteFile(conf, []byte(legacy), 0o600); err != nil {
		t.Fatal(err)
	}
	cert := winrmtest.Certificate("127.0.0.1")
	for name, c := range map[string]struct {
		options                  winrmtest.Options
		transport, user, sealing string
	}{
		"NTLM sealed":    {winrmtest.Options{}, "ntlm", `CORP\ops`, "always"},
		"NTLM over TLS":  {winrmtest.Options{TLS: cert}, "ntlm", `CORP\ops`, "never"},
		"Basic over TLS": {winrmtest.Options{TLS: cert, Offer: []string{"Basic"}}, "basic", "ops", "never"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := host(t, c.options)
			cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", pywinrm, s.URL()+"/wsman", c.transport, c.user, password, c.sealing)
			cmd.Env = append(os.Environ(), "OPENSSL_CONF="+conf, "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=")
			out, err := cmd.CombinedOutput()
			if want := "5  0\n100000  0\n0 it failed 3\n"; err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(want) {
				t.Errorf("%v\n%s\nrequests: %v", err, out, s.Requests())
			}
			if n := s.Count(); n.Shells != 0 || n.Plain != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}
