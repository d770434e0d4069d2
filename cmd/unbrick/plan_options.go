package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/schedule"
)

// calendarConfig is calendar: of unbrick.yaml, what the program cannot know of the sites.
type calendarConfig struct {
	Sites string    `yaml:"sites"` // CSV: site, country, region, timezone, opens, opens_<tier>, technicians, slots
	Days  []dayFile `yaml:"days"`  // CSV or ICS: days that are closed, or open after all
}

// A dayFile is a name, or a mapping with the country that an ICS file, which has no column for
// it, is of.
type dayFile struct {
	File    string `yaml:"file"`
	Country string `yaml:"country"`
}

// UnmarshalYAML reads "ours.csv" or {file: uk.ics, country: GB}.
func (d *dayFile) UnmarshalYAML(unmarshal func(any) error) error {
	if err := unmarshal(&d.File); err == nil {
		return nil
	}
	type plain dayFile
	return unmarshal((*plain)(d))
}

// scheduleConfig is schedule: of unbrick.yaml, what the plan reckons with beside limits.
type scheduleConfig struct {
	Technicians int                `yaml:"technicians"` // at a site whose table does not say
	Roaming     map[string]int     `yaml:"roaming"`     // by country: people who go from site to site
	Shift       string             `yaml:"shift"`       // when technicians work, by the clock of the site: "06:00-22:00"; empty: round the clock
	Travel      duration           `yaml:"travel"`      // of those of roaming, from one site to the next
	Cloud       int                `yaml:"cloud"`       // places for cloud ways, beside limits.hosts
	PerHour     map[string]int     `yaml:"per_hour"`    // by way: starts in an hour, of all processes of a run
	Weights     map[string]float64 `yaml:"weights"`     // by tier: what an hour of a host is worth
}

// check says what cannot be right.
func (s scheduleConfig) check() error {
	if s.Technicians < 0 || s.Cloud < 0 {
		return errors.New("schedule: technicians and cloud must be 1 or more, or left out")
	}
	for country, n := range s.Roaming {
		if _, err := calendar.ParseCountry(country); err != nil || n < 0 {
			return fmt.Errorf("schedule.roaming: %q: %d is not a country code and how many people go round there, such as AU: 6", country, n)
		}
	}
	known := append(ways(), rollbackWays()...)
	for way, n := range s.PerHour {
		if n < 1 {
			return fmt.Errorf("schedule.per_hour: %s must be 1 or more", way)
		}
		if !slices.Contains(known, way) {
			return fmt.Errorf("schedule.per_hour: no way in is called %q", way)
		}
	}
	if _, err := s.shift(); err != nil {
		return fmt.Errorf("schedule.shift: %v", err)
	}
	_, err := s.weights()
	return err
}

func (s scheduleConfig) shift() (schedule.Shift, error) {
	if s.Shift == "" {
		return schedule.Shift{}, nil
	}
	return schedule.ParseShift(s.Shift)
}

// weights returns what the tiers are worth, those that are not named as they are by default.
func (s scheduleConfig) weights() (w [4]float64, err error) {
	if len(s.Weights) == 0 {
		return w, nil
	}
	w = [4]float64{30, 10, 3, 1}
	for _, name := range slices.Sorted(maps.Keys(s.Weights)) {
		t, err := inventory.ParseTier(name)
		if err != nil || s.Weights[name] <= 0 {
			return w, fmt.Errorf("schedule.weights: %s: %g is not a tier and a weight above 0", name, s.Weights[name])
		}
		w[t] = s.Weights[name]
	}
	return w, nil
}

// places is what the files of calendar: say.
type places struct {
	calendar *calendar.Calendar // nil: what travels with the program
	sites    calendar.Sites
}

// readPlaces reads the files of calendar: once. Events of ICS files are sought around at.
func (c *config) readPlaces(at time.Time) error {
	const hint = "calendar: in unbrick.yaml names these files; the README has their columns"
	p := places{calendar: calendar.New()}
	if c.Calendar.Sites != "" {
		err := reading(c.Calendar.Sites, func(r io.Reader) (err error) {
			p.sites, err = calendar.ReadSites(c.Calendar.Sites, r)
			return err
		})
		if err != nil {
			return hinted(err, hint)
		}
	}
	for _, f := range c.Calendar.Days {
		err := reading(f.File, func(r io.Reader) error {
			days, err := f.read(r, at)
			p.calendar.Add(days...)
			return err
		})
		if err != nil {
			return hinted(err, hint)
		}
	}
	c.places = p
	return nil
}

// read returns the days of a file by the form that its name says.
func (d dayFile) read(r io.Reader, at time.Time) ([]calendar.Day, error) {
	if strings.EqualFold(filepath.Ext(d.File), ".ics") {
		country := d.Country
		if country != "" {
			var err error
			if country, err = calendar.ParseCountry(country); err != nil {
				return nil, fmt.Errorf("calendar.days: country %q of %s: %v", d.Country, d.File, err)
			}
		}
		return calendar.ReadICS(d.File, r, country, at)
	}
	if d.Country != "" {
		return nil, fmt.Errorf("calendar.days: %s: country is for ICS files; a CSV file has a column of that name", d.File)
	}
	return calendar.ReadDays(d.File, r)
}

func reading(name string, read func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("cannot read calendar: %w", err)
	}
	defer f.Close()
	return read(f)
}

// planOptions returns what plans of the configuration are made from, from start on. The files of
// calendar: count if readPlaces has read them.
func (c *config) planOptions(start time.Time) schedule.Options {
	weights, _ := c.Schedule.weights() // checked when the configuration was read
	shift, _ := c.Schedule.shift()
	return schedule.Options{
		Start: start, Calendar: c.places.calendar, Sites: c.places.sites,
		Ladder: c.ladder().Only(func(way string) bool { return c.serves(way) && c.unable(way) == nil }), Attempts: c.Attempts, Weights: weights,
		Limits: schedule.Limits{
			Slots: c.Limits.Hosts, PerSite: c.Limits.PerSite, Images: c.Limits.ImagesPerSite, PerSubnet: c.Limits.PerSubnet,
			Technicians: c.Schedule.Technicians, Roaming: c.Schedule.Roaming, Cloud: c.Schedule.Cloud, PerHour: c.Schedule.PerHour,
			Shift: shift, Travel: time.Duration(c.Schedule.Travel),
		},
		Held: c.held,
	}
}

// serves says whether a run of this configuration has the driver of a way.
func (c *config) serves(way string) bool {
	switch way {
	case "netboot":
		return c.Netboot.Enabled
	case "winrm", "redfish", "amt", "restart", remediate.Manual,
		"libvirt", "ec2", "azure", "gce", "vsphere", "vsphere-iso", "hyperv", "proxmox", "openstack":
		return true
	}
	return slices.Contains(rollbackWays(), way)
}

// unable says why a way in of a run cannot carry out the playbook.
func (c *config) unable(way string) error {
	if way != "winrm" { // all others have a fixer
		return nil
	}
	pb, err := openPlaybook(c.Playbook)
	if err != nil {
		return nil // said where it is opened to be used
	}
	return remediate.Supports(winrm.New(winrm.Options{}), pb)
}

// left says which ways in of the ladder a plan leaves out, and why.
func (c *config) left() (notes []string) {
	for _, r := range c.ladder() {
		if err := c.unable(r.Way); err != nil {
			notes = append(notes, fmt.Sprintf("hosts are not reckoned with by %s: %v", r.Way, err))
		}
	}
	return notes
}

// held says why a host cannot be treated, as far as that is known without asking an escrow.
func (c *config) held(h *inventory.Host) string {
	if !c.hasKeys() && saysEncrypted(h) {
		return "encrypted, and no escrow of keys is configured"
	}
	return ""
}
