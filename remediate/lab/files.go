package lab

import (
	"crypto/tls"
	"encoding/csv"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/lab/vm"
)

// The logins of the lab. They are in the open: nothing but the lab knows them.
const (
	controllerUser     = "unbrick"
	controllerPassword = "lab-only"
	windowsUser        = "Administrator"
	windowsPassword    = "lab-only-windows"
)

// places are where a run serves agents and images. They have to be known before it starts, and be
// the same when it is resumed.
type places struct{ agents, images *ports.Port }

func newPlaces() (p places, err error) {
	if p.agents, err = ports.TCP(); err != nil {
		return p, err
	}
	if p.images, err = ports.TCP(); err != nil {
		p.agents.Close()
	}
	return p, err
}

func (p places) close() {
	p.agents.Close()
	p.images.Close()
}

// writeFiles writes what a user brings to a run: the fleet, the keys, the configuration.
func (l *Lab) writeFiles(o Options, served places, certificate *tls.Certificate) error {
	type file struct {
		name    string
		mode    os.FileMode
		content string
	}
	files := []file{
		{"fleet.csv", 0o644, l.fleetCSV()},
		{"keys.csv", 0o600, l.keysCSV()},
		{"bmc-password", 0o600, controllerPassword + "\n"},
		{"windows-password", 0o600, windowsPassword + "\n"},
		{"front.pem", 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))},
		{"unbrick.yaml", 0o644, l.fleetYAML() + o.configuration(served, l.front.address()) + l.cloudsYAML()},
	}
	if len(l.clouds) > 0 {
		files = append(files, file{"clouds.env", 0o644, l.cloudsEnv()})
	}
	for _, c := range l.clouds {
		for name, content := range c.files {
			files = append(files, file{name, 0o600, content})
		}
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(o.Dir, f.name), f.mode, strings.NewReader(f.content)); err != nil {
			return fmt.Errorf("cannot write the lab's files: %w", err)
		}
	}
	if err := writeStub(filepath.Join(o.Dir, "stub")); err != nil {
		return fmt.Errorf("cannot write the lab's image: %w", err)
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
// served, and that in front of the latter. Real hosts take their time, and find us at the
// gateway of their network. The ladder is the one that is used if nobody says otherwise.
func (o Options) configuration(served places, front string) string {
	image, url, repair, soak := "stub", "https://"+served.agents.Address(), 40*time.Second, 3*o.Pace
	if !o.Plain {
		soak = max(soak, shakyUp+time.Second) // longer than a host is up that crashes
	}
	if o.VM {
		image, url, repair = "image", fmt.Sprintf("https://%s:%d", vm.Gateway, served.agents.Number), 15*time.Minute
		soak = max(soak, 5*time.Second)
	}
	return fmt.Sprintf(`keys: [keys.csv]
ledger: unbrick.ledger
state: unbrick.db
image: %s
rescue:
  dir: rescue
  listen: %s
  image_listen: %s
  url: %s
credentials:
  - {driver: redfish, user: %[5]s, password: file:bmc-password}
  - {driver: ipmi, user: %[5]s, password: file:bmc-password}
  - {driver: amt, user: %[5]s, password: file:bmc-password}
  - {driver: winrm, user: %[6]s, password: file:windows-password}
  - {driver: hyperv, user: %[6]s, password: file:windows-password}
winrm: {catch: 8s}
amt: {url: "%[7]s", root: front.pem}
restart: {most: 3, between: %[8]s}
limits: {hosts: 32, per_site: 12, images_per_site: 0, power_per_minute: 0}   # there is no uplink, and no fuse
timeouts: {check: 12s, enter: 2m, repair: %[9]s, leave: 2m, confirm: %[9]s}
soak: %[10]s
stop: {canary: 15, stranded: 3, failed: 0.6}   # hosts that fail on purpose are the first to end
`, image, served.agents.Address(), served.images.Address(), url, controllerUser, windowsUser, front, max(5*o.Pace, time.Second), repair, soak)
}

// ways are the columns of fleet.csv with the addresses of ways in.
var ways = [...]string{"winrm", "redfish", "ipmi", "amt", remediate.Manual}

func (l *Lab) fleetCSV() string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write(append([]string{"name", "serial", "uuid", "mac", "site", "country", "region", "timezone", "opens", "tier", "model", "address"}, ways[:]...))
	for _, m := range l.members {
		if !listed(m) {
			continue
		}
		i := m.inventory()
		row := []string{i.Name, i.Serial, i.UUID, strings.Join(i.MAC, " "), i.Site, i.Country, i.Region, i.TimeZone, i.Opens,
			i.Tier.String(), i.Labels["model"], i.Address}
		for _, way := range ways {
			address := ""
			for _, r := range i.Routes {
				if r.Driver == way {
					address = r.Address
				}
			}
			row = append(row, address)
		}
		w.Write(row)
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
