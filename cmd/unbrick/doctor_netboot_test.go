package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
)

// TestDoctorNetboot: doctor says of network boot what a run would say when it starts it.
func TestDoctorNetboot(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fleet.csv"), "name,site,mac,netboot,ipmi\nPC1,SYD,52:54:00:12:34:56,auto,127.0.0.1:1\n")
	ask := func(netboot string) map[string][]diagnosis {
		return diagnose(t, dir, "inventory: fleet.csv\nstate: "+filepath.Join(dir, "unbrick.db")+"\n"+netboot)
	}
	check := func(name, netboot, state, found string) map[string][]diagnosis {
		t.Helper()
		all := ask(netboot)
		if d := all["netboot"]; len(d) != 1 || d[0].State != state || !strings.Contains(d[0].Found, found) {
			t.Errorf("%s: %+v, want %s: %s", name, d, state, found)
		}
		return all
	}
	for _, d := range ask("")["SYD"] {
		if strings.Contains(d.Found, "by netboot") && !strings.Contains(d.Hint, "netboot: {enabled: true}") {
			t.Errorf("not turned on: %+v", d)
		}
	}
	check("no such card", "netboot: {enabled: true, interface: nope0}\n", "missing", "nope0")
	check("nothing to lend", "netboot: {enabled: true, address: 127.0.0.1, lend: 10.9.9.1-10.9.9.5}\n", "missing", "10.9.9.1")
	if os.Getuid() != 0 {
		testenv.Missing(t, "root")
	}
	const loopback = "netboot: {enabled: true, address: 127.0.0.1, http: '127.0.0.1:0'}\n"
	for _, d := range check("well", loopback, "ok", "its ports are free")["SYD"] {
		if strings.Contains(d.Found, "cannot use") || strings.Contains(d.Found, "not turned on") {
			t.Errorf("it works, and doctor says %+v", d)
		}
	}
	held, err := net.ListenPacket("udp4", ":69")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	check("a run has the ports", loopback, "missing", "another process has that port")
}

// TestFixWithoutNetboot: fix goes without network boot while a run has its ports; a run does not.
func TestFixWithoutNetboot(t *testing.T) {
	if os.Getuid() != 0 {
		testenv.Missing(t, "root")
	}
	held, err := net.ListenPacket("udp4", ":69")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cfg := defaults()
	cfg.Netboot = netbootConfig{Enabled: true, Dir: t.TempDir(), Address: "127.0.0.1", HTTP: "127.0.0.1:0"}
	for _, beside := range []bool{false, true} {
		cfg.beside = beside
		k := &kit{cfg: cfg, log: slog.New(slog.DiscardHandler)}
		err := k.serveNetboot(context.Background())
		if (err == nil) != beside || k.boot != nil || (k.noBoot != "") != beside {
			t.Errorf("beside a run %v: %v, %q", beside, err, k.noBoot)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}
