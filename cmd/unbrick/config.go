package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/tlspin"
)

// A config is unbrick.yaml with the flags of the command laid over it. Every field has a
// default; paths in the file are relative to the file.
type config struct {
	Inventory string              `yaml:"inventory"`  // a CSV file; with sources, one more of them
	Sources   []sourceEntry       `yaml:"sources"`    // where hosts are known
	Wins      map[string][]string `yaml:"wins"`       // for a field, the sources that are believed first
	Incident  *incidentConfig     `yaml:"incident"`   // which hosts it has hit
	Fleet     string              `yaml:"fleet"`      // file of the saved fleet; beside the state if empty
	Map       []string            `yaml:"map"`        // columns by another name: "name=Hostname"
	SkipBad   bool                `yaml:"skip_bad"`   // leave bad rows out instead of stopping
	Keys      []string            `yaml:"keys"`       // key files
	Escrows   []escrow            `yaml:"escrows"`    // where more keys are
	FirstWins bool                `yaml:"first_wins"` // where escrows have different keys for one protector, take the first's
	Ledger    string              `yaml:"ledger"`     // where releases of keys are recorded
	Playbook  string              `yaml:"playbook"`   // name or file
	State     string              `yaml:"state"`      // file, or postgres://…
	Image     string              `yaml:"image"`      // folder that unbrick image build made

	Rescue      rescueConfig `yaml:"rescue"`
	TLS         string       `yaml:"tls"`    // of BMCs: pin, verify or insecure
	TLSCA       string       `yaml:"tls_ca"` // for verify: PEM file; the system's if empty
	Credentials []credential `yaml:"credentials"`
	Ladder      []rung       `yaml:"ladder"` // ways in, cheapest first; a way left out is not used
	Limits      limits       `yaml:"limits"`
	Attempts    int          `yaml:"attempts"` // at a host that was put back as it was, by each way
	Timeouts    timeouts     `yaml:"timeouts"`
	Soak        duration     `yaml:"soak"`  // how long Windows has to stay up
	Watch       duration     `yaml:"watch"` // how long a fixed host is looked after; one that goes down is treated again
	Wait        duration     `yaml:"wait"`  // how long the run goes on for hosts that wait for a person
	Stop        stopRule     `yaml:"stop"`
	Allow       allow        `yaml:"allow"`

	WinRM   winrmConfig   `yaml:"winrm"`
	IPMI    ipmiConfig    `yaml:"ipmi"`
	AMT     amtConfig     `yaml:"amt"`
	Netboot netbootConfig `yaml:"netboot"`
	Swap    swapConfig    `yaml:"swap"`
	Restart restartConfig `yaml:"restart"`
	Manual  manualConfig  `yaml:"manual"`
	Persons persons       `yaml:"persons"`
	Falcon  falconConfig  `yaml:"falcon"`  // the console that says when a sensor was last seen
	Screens string        `yaml:"screens"` // folder for what hosts show at the end; empty: none are kept

	Calendar calendarConfig `yaml:"calendar"` // when sites open
	Schedule scheduleConfig `yaml:"schedule"` // who and what there is, for the plan

	places   places           // what calendar says
	unused   []inventory.Host // of the fleet that was read: not in use
	unpicked []string         // of the fleet that was read: names of those that do not fit --only
	down     map[string]error // sources that were found not to answer, by name
	beside   bool             // a run may go on: what it holds is done without
	pins     string           // state that remembers certificates, if it is another one
}

type rescueConfig struct {
	Dir         string `yaml:"dir"`          // the server's key and what was removed
	Listen      string `yaml:"listen"`       // HTTPS, for the fixer
	ImageListen string `yaml:"image_listen"` // HTTP, for BMCs
	URL         string `yaml:"url"`          // as hosts reach listen
	ImageURL    string `yaml:"image_url"`    // as BMCs reach image_listen
	Streams     int    `yaml:"streams"`      // images sent at once
}

// A credential is a login for the routes that fit; the first that fits is used.
type credential struct {
	Driver   string     `yaml:"driver"`  // empty: any
	Site     string     `yaml:"site"`    // pattern; empty: any
	Host     string     `yaml:"host"`    // pattern; empty: any
	Address  string     `yaml:"address"` // pattern; empty: any
	User     string     `yaml:"user"`
	Password secret.Ref `yaml:"password"` // file:, env: or exec:, never the password
}

// A rung is one way in, and how far it may go. What is 0 is not limited.
type rung struct {
	Way    string   `yaml:"way"`
	Hosts  int      `yaml:"hosts"`  // in treatment by it at once; for manual, that persons have in hand: cards that are out
	Budget duration `yaml:"budget"` // for one host, up to the end of the repair; for a person, how long the run waits
	Tries  int      `yaml:"tries"`  // at one host; attempts if 0
	Stop   stopAt   `yaml:"stop"`   // when no more hosts are begun by it
}

// A stopAt is when a way is given up until somebody resumes it; the others go on.
type stopAt struct {
	Failed   float64 `yaml:"failed"`   // a larger share than this of what ended; 0: no share
	After    int     `yaml:"after"`    // treatments before the share counts; 20 if 0
	Failures int     `yaml:"failures"` // so many; 0: no number
}

// check says what cannot be right for a way.
func (s stopAt) check(way string) error {
	switch {
	case s == stopAt{}:
		return nil
	case way == remediate.Manual:
		return errors.New("nothing stops persons: unbrick pause does, for a site or the run")
	case s.Failed < 0 || s.Failed >= 1 || s.After < 0 || s.Failures < 0:
		return fmt.Errorf("failed of %s is a share between 0 and 1, such as 0.5; after and failures are numbers of hosts", way)
	case s.Failed == 0 && s.Failures == 0:
		return fmt.Errorf("say failed: 0.5, or failures: 30, for %s", way)
	}
	return nil
}

// limits are what may go on at once. What is 0, hosts and per_site apart, is not limited.
type limits struct {
	Hosts          int `yaml:"hosts"`            // in treatment
	PerSite        int `yaml:"per_site"`         // in treatment at one site
	PerSubnet      int `yaml:"per_subnet"`       // whose BMCs are in one /24 or /64
	ImagesPerSite  int `yaml:"images_per_site"`  // fetching the rescue image over one site's uplink
	PerTechnician  int `yaml:"per_technician"`   // waiting for one person; of a site where nobody is named
	PowerPerMinute int `yaml:"power_per_minute"` // switched on at one site
}

type timeouts struct {
	Check   duration `yaml:"check"`
	Enter   duration `yaml:"enter"`
	Repair  duration `yaml:"repair"` // 20m if left out, and for counted restarts as long as they take
	Leave   duration `yaml:"leave"`
	Confirm duration `yaml:"confirm"`
}

type stopRule struct {
	Canary   int     `yaml:"canary"`   // the first so many of the whole run all bad: halt; -1: only by way and model
	Stranded int     `yaml:"stranded"` // so many not put back: halt
	Failed   float64 `yaml:"failed"`   // share of bad ones after 20: halt
}

type allow struct {
	Hibernated  bool `yaml:"hibernated"`
	DropJournal bool `yaml:"drop_journal"`
	Rollback    bool `yaml:"rollback"`  // a virtual host may go back to a snapshot: what was written since is lost to it
	SafeMode    bool `yaml:"safe_mode"` // Windows may be started in Safe Mode, for WinRM, instead of asking for its key
}

// persons is how many keys a person may have without another.
type persons struct {
	Hour   int `yaml:"hour"`
	Day    int `yaml:"day"`
	AtOnce int `yaml:"at_once"`
	// Sites are those of each login, if any are given: for hosts elsewhere two persons are needed.
	Sites map[string][]string `yaml:"sites"`
}

// A duration reads "90s" or "15m".
type duration time.Duration

// UnmarshalText reads a duration with its unit.
func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration; write 90s, 15m or 2h", b)
	}
	*d = duration(v)
	return nil
}

func defaults() *config {
	return &config{
		Ledger:   "unbrick.ledger",
		Playbook: "crowdstrike-291",
		State:    "unbrick.db",
		Image:    "unbrick-image",
		Rescue:   rescueConfig{Dir: "unbrick-rescue", Listen: ":8443", ImageListen: ":8080", Streams: 20},
		TLS:      "pin",
		Limits:   limits{Hosts: 50, PerSite: 10, PerSubnet: 8, ImagesPerSite: 4, PerTechnician: 8, PowerPerMinute: 60},
		Attempts: 2,
		Timeouts: timeouts{
			Check: duration(2 * time.Minute), Enter: duration(10 * time.Minute),
			Leave: duration(10 * time.Minute), Confirm: duration(15 * time.Minute),
		},
		Soak: duration(time.Minute),
		Wait: duration(12 * time.Hour),
		Stop: stopRule{Canary: -1, Stranded: 3, Failed: 0.5},

		WinRM:   winrmConfig{Auth: "ntlm", Krb5: "/etc/krb5.conf", Catch: duration(90 * time.Second)},
		Screens: "unbrick-screens",
		Netboot: netbootConfig{Dir: "unbrick-netboot", HTTP: ":8069"},
		Restart: restartConfig{Most: 15, Between: duration(3 * time.Minute)},
	}
}

// loadConfig reads file over the defaults. An empty name is unbrick.yaml if it is there.
func loadConfig(file string) (*config, error) {
	cfg := defaults()
	given := file != ""
	if !given {
		file = "unbrick.yaml"
	}
	b, err := os.ReadFile(file)
	if !given && errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return nil, usage("give the configuration with -c FILE; it is not needed for unbrick demo", "cannot read configuration: %v", err)
	}
	if !blankYAML(b) { // which would set every key to nothing
		err = yaml.UnmarshalWithOptions(b, cfg, yaml.Strict())
	}
	if err == nil {
		err = cfg.checkSources()
	}
	if at := (*lineError)(nil); errors.As(err, &at) {
		return nil, usage("every key is described in the README", "cannot read configuration %s:%d: %s", file, at.line, at.text)
	}
	if err != nil {
		return nil, usage("every key is described in the README", "cannot read configuration %s: %s", file, yaml.FormatError(err, false, true))
	}
	cfg.anchor(filepath.Dir(file))
	return cfg, hinted(cfg.check(file), "every key is described in the README")
}

// blankYAML says that a text has comments at most.
func blankYAML(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && string(line) != "---" {
			return false
		}
	}
	return true
}

// anchor makes the paths of the file relative to dir.
func (c *config) anchor(dir string) {
	for _, p := range []*string{&c.Inventory, &c.Ledger, &c.Image, &c.Rescue.Dir, &c.TLSCA, &c.AMT.Root, &c.WinRM.Krb5, &c.WinRM.Cert, &c.Manual.Cards, &c.Netboot.Dir, &c.Falcon.CA, &c.Screens, &c.Calendar.Sites, &c.Fleet} {
		*p = anchored(dir, *p)
	}
	if c.Fleet == "" {
		c.Fleet = filepath.Join(dir, "unbrick.fleet")
		if !shared(c.State) { // beside it
			c.Fleet = filepath.Join(filepath.Dir(anchored(dir, c.State)), "unbrick.fleet")
		}
	}
	for i := range c.Keys {
		c.Keys[i] = anchored(dir, c.Keys[i])
	}
	for i := range c.Calendar.Days {
		c.Calendar.Days[i].File = anchored(dir, c.Calendar.Days[i].File)
	}
	for _, e := range c.Escrows {
		e.anchor(dir)
	}
	for i := range c.Sources {
		c.Sources[i].anchor(dir)
	}
	if !shared(c.State) {
		c.State = anchored(dir, c.State)
	}
	if strings.ContainsAny(c.Playbook, "./\\") {
		c.Playbook = anchored(dir, c.Playbook)
	}
	anchorRef(dir, &c.WinRM.Key)
	anchorRef(dir, &c.Falcon.Secret)
	for i := range c.Credentials {
		anchorRef(dir, &c.Credentials[i].Password)
	}
	for i := range c.Swap.VSphere {
		anchorRef(dir, &c.Swap.VSphere[i].Password)
	}
	for i := range c.Swap.Proxmox {
		anchorRef(dir, &c.Swap.Proxmox[i].Token)
	}
}

// anchorRef makes the path of a reference to a file relative to dir.
func anchorRef(dir string, ref *secret.Ref) {
	if name, ok := strings.CutPrefix(string(*ref), "file:"); ok {
		*ref = secret.Ref("file:" + anchored(dir, name))
	}
}

// hasKeys says whether any escrow is configured.
func (c *config) hasKeys() bool { return len(c.Keys)+len(c.Escrows) > 0 }

func anchored(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func (c *config) check(file string) error {
	if _, err := tlspin.ParseMode(c.TLS); err != nil {
		return fmt.Errorf("%s: tls: %v", file, err)
	}
	if c.Limits.Hosts < 1 || c.Limits.PerSite < 1 || c.Rescue.Streams < 1 || c.Attempts < 1 {
		return fmt.Errorf("%s: limits.hosts, limits.per_site, attempts and rescue.streams must be 1 or more", file)
	}
	if p := c.Persons; min(p.Hour, p.Day, p.AtOnce, c.Restart.Most) < 0 {
		return fmt.Errorf("%s: persons and restart.most must be 1 or more, or left out", file)
	}
	if l := c.Limits; min(l.PerSubnet, l.ImagesPerSite, l.PerTechnician, l.PowerPerMinute) < 0 {
		return fmt.Errorf("%s: a limit must be 1 or more, or 0 for none", file)
	}
	if err := checkLadder(c.Ladder); err != nil {
		return fmt.Errorf("%s: %v", file, err)
	}
	if err := c.Swap.check(); err != nil {
		return fmt.Errorf("%s: %v", file, err)
	}
	if err := c.Schedule.check(); err != nil {
		return fmt.Errorf("%s: %v", file, err)
	}
	for i, cr := range c.Credentials {
		if err := cr.Password.Check(); err != nil {
			return fmt.Errorf("%s: credentials[%d].password: %v", file, i, err)
		}
		for _, p := range []string{cr.Site, cr.Host, cr.Address} {
			if _, err := path.Match(p, ""); err != nil {
				return fmt.Errorf("%s: credentials[%d]: %q is not a pattern", file, i, p)
			}
		}
	}
	return nil
}

// ways are the names of the usual ways in, cheapest first.
func ways() (names []string) {
	for _, r := range remediate.DefaultLadder() {
		names = append(names, r.Way)
	}
	return names
}

func checkLadder(rungs []rung) error {
	known := map[string]bool{}
	var names []string
	for _, way := range append(ways(), rollbackWays()...) {
		known[way], names = true, append(names, way)
	}
	for i, r := range rungs {
		was, ok := known[r.Way]
		switch {
		case !ok:
			return fmt.Errorf("ladder[%d]: no way in is called %q; they are %s", i, r.Way, strings.Join(names, ", "))
		case !was:
			return fmt.Errorf("ladder[%d]: %s is on the ladder twice", i, r.Way)
		case r.Hosts < 0 || r.Tries < 0:
			return fmt.Errorf("ladder[%d]: hosts and tries of %s must be 1 or more, or left out", i, r.Way)
		}
		if err := r.Stop.check(r.Way); err != nil {
			return fmt.Errorf("ladder[%d].stop: %v", i, err)
		}
		known[r.Way] = false
	}
	return nil
}

// ladder returns the ways in that the configuration names, or the usual ones. A way that it
// names also serves hosts for which the inventory has no address, where one can be told.
func (c *config) ladder() remediate.Ladder {
	if len(c.Ladder) == 0 {
		return remediate.DefaultLadder()
	}
	var l remediate.Ladder
	for _, r := range c.Ladder {
		l = append(l, remediate.Rung{Way: r.Way, Hosts: r.Hosts, Budget: time.Duration(r.Budget), Tries: r.Tries, Derive: true, Stop: remediate.Stop(r.Stop)})
	}
	return l
}

// login returns the first credential that fits the route of the host.
func (c *config) login(h inventory.Host, r inventory.Route) (secret.Login, error) {
	for _, cr := range c.Credentials {
		if (cr.Driver == "" || cr.Driver == r.Driver) && fits(cr.Site, h.Site) && fits(cr.Host, h.Name) && fits(cr.Address, r.Address) {
			return secret.Login{User: cr.User, Password: cr.Password}, nil
		}
	}
	return secret.Login{}, fmt.Errorf("no credential in the configuration fits %s of host %s (site %q)", r.Driver, h.Name, h.Site)
}

// fits matches without regard to slashes: addresses are URLs, and * is to cover them.
func fits(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	flat := strings.NewReplacer("/", "|")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(s))
	return ok && err == nil
}
