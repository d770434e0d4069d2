package amttest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/driver/amt/amttest"
	"unbrick/remediate/lab/testenv"
)

const (
	user     = "admin"
	password = "Correct-horse-1"
	uuid     = "4c4c4544-0035-1000-8000-b1c04f4e3132"
	cim      = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	amt      = "http://intel.com/wbem/wscim/1/amt-schema/1/"
)

func start(t testing.TB, o amttest.Options) *amttest.AMT {
	t.Helper()
	o.User, o.Password, o.UUID, o.Serial = user, password, uuid, "SN1"
	a, err := amttest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// TestWSL drives AMT with a client that nobody here wrote: Debian's wsl, WS-Management from
// the shell over curl.
func TestWSL(t *testing.T) {
	testenv.Need(t, "wsl", "curl", "xmllint", "uuidgen")
	a := start(t, amttest.Options{})
	w := shell{t, a.Addr(), t.TempDir()}
	w.write(".curlrc", "digest\nsilent\nmax-time = 20\n")

	w.has(w.run("id", "check"), "ProductVersion>AMT 16.1.25")
	w.has(w.run("get", cim+"CIM_SoftwareIdentity", "InstanceID=AMT"), "<h:VersionString>16.1.25</h:VersionString>")
	w.has(w.run("get", amt+"AMT_BootCapabilities", "InstanceID=Intel(r) AMT:BootCapabilities 0"), "<h:ForceUEFIHTTPSBoot>true</h:ForceUEFIHTTPSBoot>")
	w.has(w.run("enum", "CIM_BootSourceSetting"), amttest.SourcePXE, amttest.SourceHTTPS, amttest.SourceWinRE)
	w.has(w.run("enum", "CIM_ComputerSystemPackage"), "<h:PlatformGUID>44454C4C350000108000B1C04F4E3132</h:PlatformGUID>")
	w.has(w.run("enum", cim+"CIM_ComputerSystem", "-mode", "epr"), "EndpointReference", "ManagedSystem")

	// From the network, once: role, source, off, on.
	w.invoke("CIM_BootService", "SetBootConfigRole", "BootConfigSetting", "CIM_BootConfigSetting", "Intel(r) AMT: Boot Configuration 0", "<p:Role>1</p:Role>")
	w.invoke("CIM_BootConfigSetting", "ChangeBootOrder", "Source", "CIM_BootSourceSetting", amttest.SourcePXE, "")
	w.power("8")
	w.has(w.run("enum", "CIM_AssociatedPowerManagementService"), "<h:PowerState>8</h:PowerState>")
	w.power("2")
	w.has(w.run("enum", "CIM_AssociatedPowerManagementService"), "<h:PowerState>2</h:PowerState>")
	if s := a.State(); len(s.Boots) != 1 || s.Boots[0].Source != amttest.Network || s.NextOnce {
		t.Errorf("the host booted %v, next once %t", s.Boots, s.NextOnce)
	}
}

// A shell runs wsl.
type shell struct {
	t    *testing.T
	addr string
	dir  string
}

func (w shell) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w shell) run(args ...string) string {
	w.t.Helper()
	c := exec.CommandContext(w.t.Context(), "wsl", args...)
	c.Dir = w.dir
	c.Env = append(os.Environ(), "HOME="+w.dir, "SHELL=/bin/bash", "WSENDPOINT="+w.addr, "WSUSER="+user, "WSPASS="+password, "IPINTERACTIVE=0")
	out, err := c.CombinedOutput()
	if err != nil {
		w.t.Fatalf("wsl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w shell) has(out string, parts ...string) {
	w.t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			w.t.Errorf("no %q in:\n%s", p, out)
		}
	}
}

// invoke calls a method with a reference and further parameters. wsl takes a reference from an
// answer with that answer's prefixes, which it does not declare: so the body is given as text.
func (w shell) invoke(class, method, param, refClass, instance, more string) {
	w.t.Helper()
	w.method(class, method, `<p:`+param+`>`+reference(refClass, `<wsman:Selector Name="InstanceID">`+instance+`</wsman:Selector>`)+`</p:`+param+`>`+more)
}

func (w shell) power(state string) {
	w.t.Helper()
	w.method("CIM_PowerManagementService", "RequestPowerStateChange", `<p:PowerState>`+state+`</p:PowerState><p:ManagedElement>`+
		reference("CIM_ComputerSystem", `<wsman:Selector Name="CreationClassName">CIM_ComputerSystem</wsman:Selector><wsman:Selector Name="Name">ManagedSystem</wsman:Selector>`)+`</p:ManagedElement>`)
}

func reference(class, selectors string) string {
	return `<wsa:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</wsa:Address><wsa:ReferenceParameters><wsman:ResourceURI>` +
		cim + class + `</wsman:ResourceURI><wsman:SelectorSet>` + selectors + `</wsman:SelectorSet></wsa:ReferenceParameters>`
}

func (w shell) method(class, method, params string) {
	w.t.Helper()
	w.write("body.xml", `<p:`+method+`_INPUT xmlns:p="`+cim+class+`">`+params+`</p:`+method+`_INPUT>`)
	w.has(w.run("invoke", class, method, "-raw", "body.xml"), "<h:ReturnValue>0</h:ReturnValue>")
}
