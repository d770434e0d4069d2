package lab

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue"
)

// The login of every BMC in the lab. It is in the open: nothing but the lab knows it.
const (
	bmcUser     = "unbrick"
	bmcPassword = "lab-only"
)

// writeFiles writes what a user brings to a run: the fleet, the keys, the configuration.
func (l *Lab) writeFiles(o Options) error {
	agents, err := freeAddress()
	if err != nil {
		return err
	}
	images, err := freeAddress()
	if err != nil {
		return err
	}
	stub := rescue.StubImage()
	for _, f := range []struct {
		name    string
		mode    os.FileMode
		content io.Reader
	}{
		{"fleet.csv", 0o644, strings.NewReader(l.fleetCSV())},
		{"keys.csv", 0o600, strings.NewReader(l.keysCSV())},
		{"bmc-password", 0o600, strings.NewReader(bmcPassword + "\n")},
		{"stub.iso", 0o644, io.NewSectionReader(stub, 0, stub.Size)},
		{"unbrick.yaml", 0o644, strings.NewReader(o.configuration(agents, images))},
	} {
		if err := writeFile(filepath.Join(o.Dir, f.name), f.mode, f.content); err != nil {
			return fmt.Errorf("cannot write the lab's files: %w", err)
		}
	}
	return nil
}

func writeFile(name string, mode os.FileMode, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// configuration is the lab's unbrick.yaml, with the addresses at which agents and images are
// served. Real hosts take their time, and find us at the gateway of their network.
func (o Options) configuration(agents, images string) string {
	image, url, repair, soak := "stub.iso", "https://"+agents, 40*time.Second, 3*o.Pace
	if o.VM {
		_, port, _ := net.SplitHostPort(agents)
		image, url, repair = "image", "https://"+net.JoinHostPort(vm.Gateway, port), 15*time.Minute
		soak = max(soak, 5*time.Second)
	}
	return fmt.Sprintf(`# The lab: everything is on loopback, so the times are short.
inventory: fleet.csv
keys: [keys.csv]
ledger: unbrick.ledger
state: unbrick.db
image: %s
rescue:
  dir: rescue
  listen: %s
  image_listen: %s
  url: %s
credentials:
  - driver: redfish
    user: %s
    password: file:bmc-password
limits: {hosts: 32, per_site: 12, images_per_site: 0, power_per_minute: 0}   # there is no uplink, and no fuse
timeouts: {check: 20s, enter: 2m, repair: %s, leave: 2m, confirm: %s}
soak: %s
stop: {canary: 5, stranded: 3, failed: 0.6}
`, image, agents, images, url, bmcUser, repair, repair, soak)
}

func (l *Lab) fleetCSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write([]string{"name", "serial", "uuid", "mac", "site", "country", "region", "timezone", "opens", "tier", "address", "redfish"})
	for _, m := range l.members {
		i := m.inventory()
		w.Write([]string{i.Name, i.Serial, i.UUID, strings.Join(i.MAC, " "), i.Site, i.Country, i.Region, i.TimeZone, i.Opens,
			i.Tier.String(), i.Address, i.Routes[0].Address})
	}
	w.Flush()
	return b.String()
}

func (l *Lab) keysCSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write([]string{"host", "key_id", "recovery_key"})
	for _, m := range l.members {
		if f, ok := m.filing(); ok {
			w.Write([]string{f.Host, f.ID.String(), f.Key.Reveal()})
		}
	}
	w.Flush()
	return b.String()
}

// freeAddress returns an address on loopback that nobody listens on now. It has to be known
// before the server starts, and the same when a run is resumed; so it is below the ports
// that systems give out by themselves.
func freeAddress() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("cannot listen on loopback: no port of 100 was free")
}
