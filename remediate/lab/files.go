package lab

import (
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

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
		{"unbrick.yaml", 0o644, strings.NewReader(fmt.Sprintf(configuration, agents, images, o.soak()))},
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

// soak is how long Windows has to stay up in the lab: a few of its short things.
func (o Options) soak() time.Duration { return 3 * o.Pace }

// configuration is the lab's unbrick.yaml: where agents and images are served, and the soak.
const configuration = `# The lab: everything is on loopback, so the times are short.
inventory: fleet.csv
keys: [keys.csv]
ledger: unbrick.ledger
state: unbrick.db
image: stub.iso            # only simulated hosts can boot it
rescue:
  dir: rescue
  listen: %s
  image_listen: %s
credentials:
  - driver: redfish
    user: unbrick
    password: file:bmc-password
limits: {hosts: 32, per_site: 12}
timeouts: {check: 30s, enter: 1m, repair: 2m, leave: 1m, confirm: 1m}
soak: %s
stop: {canary: 5, stranded: 3, failed: 0.6}
`

func (l *Lab) fleetCSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write([]string{"name", "serial", "uuid", "mac", "site", "country", "region", "timezone", "opens", "tier", "address", "redfish"})
	for _, h := range l.hosts {
		i := h.inventory()
		w.Write([]string{i.Name, i.Serial, i.UUID, strings.Join(i.MAC, " "), i.Site, i.Country, i.Region, i.TimeZone, i.Opens,
			i.Tier.String(), i.Address, h.route})
	}
	w.Flush()
	return b.String()
}

func (l *Lab) keysCSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write([]string{"host", "key_id", "recovery_key"})
	for _, h := range l.hosts {
		if h.kind.key != noKey {
			w.Write([]string{h.Name, h.protector.String(), h.escrowed.Reveal()})
		}
	}
	w.Flush()
	return b.String()
}

// freeAddress returns an address on loopback that nobody listens on now. It has to be known
// before the server starts, and the same when a run is resumed.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot listen on loopback: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
