package csv

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// A setter takes a value that is not empty into r.host, or says what is wrong with it.
type setter func(r *rows, c *column, v string) error

// fields are what a column can be. The ways in carry the names of their drivers.
var fields = map[string]setter{
	"name":       setName,
	"serial":     setSerial,
	"uuid":       setUUID,
	"mac":        setMAC,
	"address":    setAddress,
	"site":       textOn(func(h *inventory.Host) *string { return &h.Site }),
	"region":     textOn(func(h *inventory.Host) *string { return &h.Region }),
	"group":      textOn(func(h *inventory.Host) *string { return &h.Group }),
	"technician": textOn(func(h *inventory.Host) *string { return &h.Technician }),
	"country":    setCountry,
	"timezone":   setZone,
	"opens":      setOpens,
	"tier":       setTier,
	"state":      setState,
	"seen":       setSeen,

	"winrm":   route(hostOrURL),
	"redfish": route(hostOrURL),
	"amt":     route(hostOrURL),
	"ipmi":    route(hostPort),
	"netboot": route(powerSwitch),
	"restart": route(powerSwitch),
	"ec2":     route(anyAddress),
	"azure":   route(anyAddress),
	"gce":     route(anyAddress),
	"vsphere": route(anyAddress),
	"hyperv":  route(anyAddress),
	"manual":  route(anyAddress),

	"vsphere-iso": route(anyAddress),
	"proxmox":     route(anyAddress),
	"openstack":   route(anyAddress),
	"libvirt":     routeUnless(holdsUser, anyAddress), // its URI has a query
}

// set takes one value into the host, or reports it.
func (r *rows) set(c *column, v string) {
	if c.field == ignored || r.err != nil {
		return
	}
	if err := clean(v); err != nil {
		r.report(c, "", err) // never repeated: it may be a secret, or upset a terminal
		return
	}
	if absent(v) && c.field != "" && c.field != "name" && c.field != "serial" && c.field != "uuid" {
		return
	}
	if err := c.set(r, c, v); err != nil {
		if mayHoldLogin(v) {
			v = ""
		}
		r.report(c, v, err)
	}
}

// report yields a bad value, with what was wrong with it.
func (r *rows) report(c *column, v string, err error) {
	e := r.problem(c, v, err)
	r.bad++
	r.err = r.yield(inventory.Host{}, e)
}

// aside reports a value that is left out of a row that is used all the same.
func (r *rows) aside(c *column, v string, reason, want string) {
	e := r.problem(c, v, &inventory.ValueError{Reason: reason, Want: want})
	e.Warning = true
	if r.err == nil {
		r.err = r.yield(inventory.Host{}, e)
	}
}

// problem says where v stands, and what is wrong with it.
func (r *rows) problem(c *column, v string, err error) *inventory.RowError {
	e := &inventory.RowError{Place: r.place, Line: r.line, Column: c.title, Value: shorten(v), Reason: err.Error()}
	if ve, ok := err.(*inventory.ValueError); ok {
		e.Reason, e.Want = ve.Reason, ve.Want
	}
	return e
}

// shorten keeps a value readable in one line of an error.
func shorten(v string) string {
	const most = 80
	if len(v) <= most {
		return v
	}
	for i := range v {
		if i >= most {
			return v[:i] + "…"
		}
	}
	return v
}

// absent says that an export wrote a word where it had no value.
func absent(v string) bool {
	if v == "" || len(v) > len("(empty)") || strings.IndexByte("-nN(", v[0]) < 0 {
		return false
	}
	for _, word := range [...]string{"-", "--", "n/a", "none", "null", "(null)", "(empty)"} {
		if strings.EqualFold(v, word) {
			return true
		}
	}
	return false
}

// recoveryKey is a BitLocker recovery password, anywhere in a text.
var recoveryKey = regexp.MustCompile(`\d{6}([- ]\d{6}){7}`)

// clean refuses what must not be in any value.
func clean(v string) error {
	const save = `text in UTF-8; save the file as "CSV UTF-8"`
	if !utf8.ValidString(v) {
		return &inventory.ValueError{Reason: "not UTF-8", Want: save}
	}
	if strings.IndexByte(v, 0) >= 0 {
		return &inventory.ValueError{Reason: "a NUL byte", Want: save}
	}
	if len(v) >= 55 && recoveryKey.MatchString(v) {
		return &inventory.ValueError{Reason: "holds a BitLocker recovery key", Want: "no keys in the inventory; they come from a key source"}
	}
	return nil
}

// setName is called for an empty cell too: a row without a name is no host.
func setName(r *rows, _ *column, v string) (err error) {
	if plainName(v) {
		r.host.Name = v
		return nil
	}
	r.host.Name, err = inventory.ParseName(v)
	return err
}

// plainName says that a name is as most are, and right: letters, digits and hyphens.
func plainName(v string) bool {
	if v == "" || len(v) > 63 || v[0] == '-' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// setSerial puts aside what stands for "no serial number". Taken as one it would make a single
// host of all machines of a careless maker.
func setSerial(r *rows, c *column, v string) error {
	if inventory.FakeSerial(v) || absent(v) {
		r.aside(c, v, "what firmware shows where there is no serial number", "the host's own, or nothing")
		return nil
	}
	if err := printable(v); err != nil {
		return err
	}
	r.host.Serial = v
	return nil
}

// setUUID does the same for UUIDs.
func setUUID(r *rows, c *column, v string) error {
	const want = "the host's own SMBIOS UUID, or nothing"
	if inventory.FakeSerial(v) || absent(v) {
		r.aside(c, v, "no UUID", want)
		return nil
	}
	u, err := inventory.ParseUUID(v)
	if err == nil && inventory.FakeUUID(u) {
		r.aside(c, v, "what firmware shows where there is no UUID", want)
		return nil
	}
	r.host.UUID = u
	return err
}

// setMAC takes one or several addresses, and adds to those of another MAC column.
func setMAC(r *rows, c *column, v string) error {
	for m := range strings.FieldsFuncSeq(v, separates) {
		mac, err := inventory.ParseMAC(m)
		if err != nil {
			return err
		}
		if inventory.FakeMAC(mac) {
			r.aside(c, m, "the MAC address of no adapter", "the adapter's own, or nothing")
			continue
		}
		if !slices.Contains(r.host.MAC, mac) {
			r.host.MAC = append(r.host.MAC, mac)
		}
	}
	return nil
}

// textOn sets a field of free text that must fit on a line.
func textOn(at func(*inventory.Host) *string) setter {
	return func(r *rows, _ *column, v string) error {
		*at(&r.host) = v
		return printable(v)
	}
}

// printable refuses what would break a line of a report, or speak to a terminal.
func printable(v string) error {
	for _, c := range v {
		if (c < ' ' || c > '~') && !unicode.IsPrint(c) {
			return &inventory.ValueError{Reason: "holds a character that cannot be shown (" + strconv.QuoteRuneToASCII(c) + ")", Want: "text on one line"}
		}
	}
	return nil
}

// setCountry and setZone check what decides when a host is due.
func setCountry(r *rows, _ *column, v string) (err error) {
	r.host.Country, err = calendar.ParseCountry(v)
	return err
}

// setZone takes an IANA name, or Windows's.
func setZone(r *rows, _ *column, v string) (err error) {
	r.host.TimeZone, err = r.zones.Check("timezone", v)
	return err
}

// setOpens remembers the hours that were right: a fleet has few different ones.
func setOpens(r *rows, _ *column, v string) error {
	r.host.Opens = v
	if r.opens[v] {
		return nil
	}
	_, err := calendar.ParseHours(v)
	if err == nil && len(r.opens) < 1000 {
		r.opens[v] = true
	}
	return err
}

// setTier takes the name of a tier in any case.
func setTier(r *rows, _ *column, v string) (err error) {
	if r.host.Tier, err = inventory.ParseTier(v); err != nil {
		return &inventory.ValueError{Reason: "not a tier", Want: "dependency, critical, normal or low"}
	}
	return nil
}

// setState takes a word for a host that is not in use, as systems have it. Any other word, as
// "Installed" or the state of a country, is a label.
func setState(r *rows, c *column, v string) error {
	if r.host.State = inventory.ParseState(v); r.host.State != "" {
		return nil
	}
	return setLabel(r, c, v)
}

// setSeen takes when the file's system last heard of the host. A time without a zone may be that
// of any: what it can be off by is in the lag. Anything else, as "never", is a label.
func setSeen(r *rows, c *column, v string) error {
	at := &r.host.From[0]
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 MST"} {
		if t, err := time.Parse(layout, v); err == nil && zoned(t) {
			at.Seen, at.Lag = t.UTC(), seenLag(c.title)
			return nil
		}
	}
	for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, v); err == nil {
			at.Seen, at.Lag = t.Add(-zoneless), seenLag(c.title)+2*zoneless
			return nil
		}
	}
	return setLabel(r, c, v)
}

// seenLag is how long a host may have been up after that without the system's knowing, by the
// header of its export: the lags are those of the sources for the same systems.
func seenLag(header string) time.Duration {
	switch k := key(header); {
	case strings.Contains(k, "logon"), strings.Contains(k, "signin"):
		return 14 * 24 * time.Hour // lastLogonTimestamp is written every 9 to 14 days
	case strings.Contains(k, "discover"):
		return 7 * 24 * time.Hour
	case strings.Contains(k, "checkin"), strings.Contains(k, "sync"):
		return 8 * time.Hour
	}
	return 0
}

// zoneless is how far the clocks of the world are from UTC at most.
const zoneless = 14 * time.Hour

// zoned says that a time's zone is known: of a short name that Go does not know, such as CEST, it
// makes a zone without an offset.
func zoned(t time.Time) bool {
	name, offset := t.Zone()
	return offset != 0 || name == "" || name == "UTC" || name == "GMT"
}

// setLabel keeps a column that is none of ours, under its own header.
func setLabel(r *rows, c *column, v string) error {
	if r.host.Labels == nil {
		r.host.Labels = make(map[string]string, 4)
	}
	r.host.Labels[c.title] = v
	return nil
}
