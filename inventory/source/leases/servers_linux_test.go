package leases_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/source/leases"
	"unbrick/remediate/lab/testenv"
)

const (
	iscConf = `authoritative; ping-check false; default-lease-time 600; max-lease-time 4294967295; min-lease-time 2;
subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.10 10.77.0.20; }
`
	keaConf = `{"Dhcp4": {"interfaces-config": {"interfaces": ["srv"], "dhcp-socket-type": "raw"}, "hostname-char-set": "",
 "lease-database": {"type": "memfile", "persist": true, "name": "FILE", "lfc-interval": 0},
 "valid-lifetime": 600, "min-valid-lifetime": 2, "max-valid-lifetime": 4294967295, "expired-leases-processing": {"reclaim-timer-wait-time": 1}, "subnet4": [{"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.10-10.77.0.20"}]}]}}
`
	// bind is what a client does with its lease: one that it has no address of it cannot give back.
	bind = "#!/bin/sh\n[ \"$1\" != bound ] || ip addr replace $ip/24 dev $interface\n"
)

// TestServers has hosts get leases from DHCP servers that nobody here wrote, on a network of
// their own, and reads the files of those while they run.
func TestServers(t *testing.T) {
	dhcpd := []string{"/usr/sbin/dhcpd", "-4", "-f", "-q", "-cf", "CONF", "-lf", "FILE", "-pf", "PID", "srv"}
	// The server of ISC does not take names that are none of the DNS; that of Kea writes them small.
	// The one marks a lease that is given back, the other forgets it; neither says the name again
	// when one is over.
	isc := []string{"WS-1 [52:54:00:00:00:01] 10.77.0.10 5m0s", "WS-3 [52:54:00:00:00:03] 10.77.0.12 0s", "WS-5 [52:54:00:00:00:05]  over", "WS-6 [52:54:00:00:00:06]  over"}
	for name, c := range map[string]struct {
		conf   string
		server []string
		want   []string
	}{
		"ISC":               {iscConf, dhcpd, isc},
		"ISC in local time": {"db-time-format local;" + iscConf, dhcpd, isc},
		"Kea":               {keaConf, []string{"/usr/sbin/kea-dhcp4", "-c", "CONF"}, []string{"büro-2 [52:54:00:00:00:02] 10.77.0.11 5m0s", "ws-1 [52:54:00:00:00:01] 10.77.0.10 5m0s", "ws-3 [52:54:00:00:00:03] 10.77.0.12 0s", "ws-6 [52:54:00:00:00:06]  over"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, c.server[0])
			begin := time.Now().Truncate(time.Second)
			file := n.serve(c.conf, c.server)
			n.client("52:54:00:00:00:01", "-q", "-x", "hostname:WS-1")
			n.client("52:54:00:00:00:02", "-q", "-x", "hostname:Büro-2")
			n.client("52:54:00:00:00:03", "-q", "-x", "hostname:WS-3", "-x", "lease:4294967295")
			n.client("52:54:00:00:00:04", "-q")
			n.client("52:54:00:00:00:01", "-q", "-x", "hostname:WS-1")                  // again
			n.client("52:54:00:00:00:05", "-x", "hostname:WS-5")                        // and gives it back
			n.client("52:54:00:00:00:06", "-q", "-x", "hostname:WS-6", "-x", "lease:2") // and does not come again
			var got []string
			for limit := time.Now().Add(10 * time.Second); !slices.Equal(got, c.want) && time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
				got = hosts(t, file, begin) // a lease is over a little later
			}
			if !slices.Equal(got, c.want) {
				b, _ := os.ReadFile(file)
				t.Errorf("%q\nwant %q\nin %s", got, c.want, b)
			}
		})
	}
}

// hosts reads a file: name, MAC address, IP address, and how old the news may be: for a lease that is
// over no older than the test.
func hosts(t *testing.T, file string, begin time.Time) (all []string) {
	t.Helper()
	f, err := inventory.Load(t.Context(), inventory.Options{}, leases.Source{Path: file})
	if err != nil { // asked again: a server may be writing
		return []string{err.Error()}
	}
	for _, h := range f.Hosts {
		if seen := h.Seen(); seen.Before(begin) || seen.After(time.Now()) {
			t.Errorf("%s was seen at %v, and the test began at %v", h.Name, seen, begin)
		}
		lag := h.From[0].Lag.String()
		if h.Address == "" && h.From[0].Lag <= time.Since(begin) {
			lag = "over"
		}
		all = append(all, fmt.Sprintf("%s %v %s %s", h.Name, h.MAC, h.Address, lag))
	}
	slices.Sort(all)
	return all
}

// A network has a server's end and a client's end, each in a name space of its own.
type network struct {
	t           *testing.T
	dir         string
	server, end string // name spaces
}

func newNetwork(t *testing.T, program string) *network {
	testenv.Need(t, program, "busybox", "ip", "nsenter")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for a network of its own")
	}
	n := &network{t: t, dir: t.TempDir()}
	n.server, n.end = n.space(), n.space()
	n.run(n.server, "ip", "link", "add", "srv", "type", "veth", "peer", "name", "cli", "netns", filepath.Base(filepath.Dir(filepath.Dir(n.end))))
	n.run(n.server, "ip", "addr", "add", "10.77.0.1/24", "dev", "srv")
	n.run(n.server, "ip", "link", "set", "srv", "up")
	n.run(n.end, "ip", "link", "set", "cli", "up")
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // Kea looks once whether its end runs
		if out, _ := n.command(n.server, "ip", "-o", "link", "show", "srv").Output(); bytes.Contains(out, []byte("state UP")) {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the network does not come up")
		}
	}
	if err := os.WriteFile(filepath.Join(n.dir, "bind"), []byte(bind), 0o700); err != nil {
		t.Fatal(err)
	}
	return n
}

// space makes a network name space, which lasts as long as the test.
func (n *network) space() string {
	hold := exec.Command("busybox", "sleep", "600")
	hold.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := hold.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = hold.Process.Kill(); _ = hold.Wait() })
	return fmt.Sprintf("/proc/%d/ns/net", hold.Process.Pid)
}

func (n *network) command(space string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + space}, args...)...)
}

func (n *network) run(space string, args ...string) {
	n.t.Helper()
	if out, err := n.command(space, args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// serve starts a server, with its configuration in a file, and returns where it keeps leases.
// Clients ask until it answers.
func (n *network) serve(conf string, args []string) (file string) {
	file = filepath.Join(n.dir, "leases")
	fill := strings.NewReplacer("CONF", filepath.Join(n.dir, "conf"), "FILE", file, "PID", filepath.Join(n.dir, "pid"))
	if err := os.WriteFile(filepath.Join(n.dir, "conf"), []byte(fill.Replace(conf)), 0o600); err != nil {
		n.t.Fatal(err)
	}
	args = slices.Clone(args)
	for i := range args {
		args[i] = fill.Replace(args[i])
	}
	if slices.Contains(args, file) { // ISC's wants one that is there
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	c := n.command(n.server, args...)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	c.Env = append(os.Environ(), "KEA_PIDFILE_DIR="+n.dir, "KEA_LOCKFILE_DIR="+n.dir, "KEA_LOGGER_DESTINATION=stdout")
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if n.t.Failed() {
			n.t.Log(said.String())
		}
	})
	return file
}

// client has a host ask for an address until it has one. Without -q it gives it back.
func (n *network) client(mac string, more ...string) {
	n.t.Helper()
	n.run(n.end, "ip", "addr", "flush", "dev", "cli")
	n.run(n.end, "ip", "link", "set", "cli", "address", mac)
	c := n.command(n.end, append([]string{"busybox", "udhcpc", "-i", "cli", "-f", "-n", "-t", "20", "-T", "1", "-s", filepath.Join(n.dir, "bind")}, more...)...)
	out, err := c.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	var said strings.Builder
	for in := bufio.NewScanner(out); in.Scan(); {
		fmt.Fprintln(&said, in.Text())
		switch {
		case strings.Contains(in.Text(), " obtained from "):
			_ = c.Process.Signal(syscall.SIGUSR2) // too late for one with -q
		case strings.Contains(in.Text(), "entering released state"):
			_ = c.Process.Kill()
		}
	}
	_ = c.Wait()
	if !strings.Contains(said.String(), " obtained from ") {
		n.t.Fatalf("%s has no lease: %s", mac, said.String())
	}
}
