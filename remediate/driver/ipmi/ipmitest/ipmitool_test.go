package ipmitest_test

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"unbrick/remediate/driver/ipmi/ipmitest"
	"unbrick/remediate/lab/testenv"
)

// TestIPMITool has the BMC driven by a client that nobody of its makers wrote.
func TestIPMITool(t *testing.T) {
	testenv.Need(t, "ipmitool")
	t.Setenv("IPMI_PASSWORD", "correct horse")
	for _, suite := range []string{"3", "17"} {
		t.Run("suite "+suite, func(t *testing.T) {
			var told []string
			b := start(t, ipmitest.Options{
				User: "ADMIN", Password: "correct horse",
				Started: func(device string) { told = append(told, "started from "+device) },
				Stopped: func() { told = append(told, "stopped") },
			})
			for _, c := range []struct{ args, want string }{
				{"chassis power status", "Chassis Power is on"},
				{"chassis power off", "Down/Off"},
				{"chassis power status", "Chassis Power is off"},
				{"chassis bootdev pxe options=efiboot", "Set Boot Device to pxe"},
				{"chassis bootparam get 5", "Boot Device Selector : Force PXE"},
				{"chassis bootparam get 5", "BIOS EFI boot"},
				{"chassis power on", "Up/On"},
				{"chassis bootparam get 5", "Boot Flag Invalid"},
				{"chassis power cycle", "Cycle"},
			} {
				out, err := tool(t, b, suite, c.args)
				if err != nil || !strings.Contains(out, c.want) {
					t.Errorf("ipmitool %s: %v\n%s\nwant one with %q", c.args, err, out, c.want)
				}
			}
			if want := []string{ipmitest.Network, ipmitest.Disk}; !slices.Equal(b.State().Boots, want) {
				t.Errorf("the host booted %q, want %q", b.State().Boots, want)
			}
			if want := []string{"stopped", "started from network", "stopped", "started from disk"}; !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
			if n := b.State().Sessions; n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}

func TestIPMIToolRefused(t *testing.T) {
	testenv.Need(t, "ipmitool")
	t.Setenv("IPMI_PASSWORD", "wrong")
	b := start(t, ipmitest.Options{User: "ADMIN", Password: "correct horse"})
	if out, err := tool(t, b, "17", "chassis power off"); err == nil {
		t.Errorf("a wrong password did it:\n%s", out)
	}
	if s := b.State(); !s.On || s.Actions != 0 {
		t.Errorf("after a wrong password: %+v", s)
	}
}

func start(t *testing.T, o ipmitest.Options) *ipmitest.BMC {
	t.Helper()
	b, err := ipmitest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// tool runs ipmitool, which takes the password from the environment.
func tool(t *testing.T, b *ipmitest.BMC, suite, args string) (string, error) {
	t.Helper()
	host, port, _ := net.SplitHostPort(b.Addr())
	cmd := exec.CommandContext(t.Context(), "ipmitool", append([]string{
		"-I", "lanplus", "-C", suite, "-H", host, "-p", port, "-U", "ADMIN", "-E", "-N", "1", "-R", "2",
	}, strings.Fields(args)...)...)
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSuiteOfNobody(t *testing.T) {
	if b, err := ipmitest.Start(ipmitest.Options{User: "ADMIN", Password: "p", Suites: []int{99}}); err == nil {
		b.Close()
		t.Error("a BMC with cipher suite 99")
	}
}
