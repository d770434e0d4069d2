package ipmi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/ipmi"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/power"
)

// chassisScript is what ipmi_sim calls: it keeps power and boot device in files, and notes
// what each start boots.
const chassisScript = `#!/bin/sh
d=%s
op=$1; shift; [ "$op" = get ] || [ "$op" = set ] || { op=$1; shift; }
[ "$1" = 0x20 ] && shift
while [ $# -gt 0 ]; do
	case $op in
	get) echo "$1:$(cat $d/$1)"; shift;;
	set)
		case $1 in
		power)
			[ "$2" = 1 ] && [ "$(cat $d/power)" = 0 ] && { cat $d/boot >> $d/boots; echo >> $d/boots; printf none > $d/boot; }
			printf %%s $2 > $d/power;;
		boot) printf %%s $2 > $d/boot;;
		esac
		shift 2;;
	esac
done
`

const simLAN = `name "h1"
set_working_mc 0x20
startlan 1
addr 127.0.0.1 %d
priv_limit admin
allowed_auths_admin none md2 md5 straight
guid 4c4c4544003510008000b1c04f4e3132
endlan
chassis_control "%s"
user 2 true "%s" "%s" admin 10 none md2 md5 straight
`

const simEmulator = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// A sim is an ipmi_sim of OpenIPMI: a BMC that nobody wrote who wrote our client. It takes
// cipher suite 3 alone.
type sim struct{ addr, dir string }

func startSim(t *testing.T) sim {
	t.Helper()
	testenv.Need(t, "ipmi_sim")
	dir := t.TempDir()
	port := ports.ForTest(t, ports.UDP)
	script := filepath.Join(dir, "chassis.sh")
	for name, text := range map[string]string{
		script:                         fmt.Sprintf(chassisScript, dir),
		filepath.Join(dir, "power"):    "1",
		filepath.Join(dir, "boot"):     "none",
		filepath.Join(dir, "lan.conf"): fmt.Sprintf(simLAN, port.Number, script, user, password),
		filepath.Join(dir, "sim.emu"):  simEmulator,
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "ipmi_sim", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "sim.emu"), "-s", dir, "-n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("ipmi_sim said:\n%s", out.Bytes())
		}
	})
	s := sim{port.Address(), dir}
	if !soon(func() bool { _, err := simSwitch(password).Power(t.Context(), at(s.addr)); return err == nil }) {
		_, err := simSwitch(password).Power(t.Context(), at(s.addr))
		t.Fatalf("ipmi_sim does not answer: %v", err)
	}
	return s
}

func simSwitch(password string) *ipmi.Switch {
	o := options(password)
	o.Times.Reply, o.Times.Settle = time.Second, 10*time.Second // it starts a shell for each look
	return ipmi.New(o)
}

func (s sim) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// TestSim switches a BMC of OpenIPMI, and starts its host from the network once.
func TestSim(t *testing.T) {
	s := startSim(t)
	w, ctx, h := simSwitch(password), t.Context(), at(s.addr)
	h.Host.UUID = "4c4c4544-0035-1000-8000-b1c04f4e3132"
	steps := []struct {
		what string
		do   func() error
	}{
		{"turn off", func() error { return w.Turn(ctx, h, power.Off) }},
		{"turn off again", func() error { return w.Turn(ctx, h, power.Off) }},
		{"next network", func() error { return w.Next(ctx, h, power.Network) }},
		{"turn on", func() error { return w.Turn(ctx, h, power.On) }},
		{"turn off", func() error { return w.Turn(ctx, h, power.Off) }},
		{"next network", func() error { return w.Next(ctx, h, power.Network) }},
		{"next disk", func() error { return w.Next(ctx, h, power.Disk) }},
		{"turn on", func() error { return w.Turn(ctx, h, power.On) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
	}
	if st, err := w.Power(ctx, h); err != nil || st != power.On {
		t.Errorf("power %s, %v", st, err)
	}
	if got := strings.Fields(s.read(t, "boots")); len(got) != 2 || got[0] != "pxe" || got[1] != "none" && got[1] != "default" {
		t.Errorf("the host booted %q, want pxe and then nothing special", got)
	}
}

// TestSimDenied: a BMC of others, too, is understood when it refuses.
func TestSimDenied(t *testing.T) {
	s := startSim(t)
	var retry *remediate.RetryError
	_, err := simSwitch("wrong").Power(t.Context(), at(s.addr))
	if err == nil || !strings.Contains(err.Error(), "refused the credentials") || errors.As(err, &retry) {
		t.Errorf("wrong password: %v", err)
	}
	o := options(password)
	o.Times.Reply = time.Second
	o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
		return "nobody", secret.New(password), nil
	}
	_, err = ipmi.New(o).Power(t.Context(), at(s.addr))
	if err == nil || !strings.Contains(err.Error(), `no user "nobody"`) || errors.As(err, &retry) {
		t.Errorf("unknown user: %v", err)
	}
}
