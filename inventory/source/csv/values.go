package csv

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	"site":       text64(func(h *inventory.Host) *string { return &h.Site }),
	"region":     text64(func(h *inventory.Host) *string { return &h.Region }),
	"group":      text64(func(h *inventory.Host) *string { return &h.Group }),
	"technician": text64(func(h *inventory.Host) *string { return &h.Technician }),
	"country":    setCountry,
	"timezone":   setZone,
	"opens":      setOpens,
	"tier":       setTier,

	"winrm":   route(hostOrURL),
	"redfish": route(hostOrURL),
	"amt":     route(hostOrURL),
	"ipmi":    route(hostPort),
	"netboot": route(macOnly),
	"ec2":     route(anyAddress),
	"azure":   route(anyAddress),
	"gce":     route(anyAddress),
	"vsphere": route(anyAddress),
	"hyperv":  route(anyAddress),
	"manual":  route(anyAddress),
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
	if len(v) > len("(empty)") {
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

func setName(r *rows, _ *column, v string) (err error) {
	r.host.Name, err = inventory.ParseName(v)
	return err
}

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

func setMAC(r *rows, c *column, v string) error {
	for m := range strings.FieldsFuncSeq(v, func(c rune) bool { return strings.ContainsRune(" ,;|\n\r\t", c) }) {
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

// setAddress takes one address. Of several, which ConfigMgr writes, it takes the first IPv4
// address, else the first.
func setAddress(r *rows, _ *column, v string) error {
	all := strings.FieldsFunc(v, func(c rune) bool { return strings.ContainsRune(" ,;|\n\r\t", c) })
	best := ""
	for _, a := range all {
		if err := hostPort(a); err != nil {
			return err
		}
		ip, err := netip.ParseAddr(a)
		if best == "" || err == nil && ip.Is4() && !isIPv4(best) {
			best = a
		}
	}
	r.host.Address = best
	return nil
}

func isIPv4(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is4()
}

// checkAddress puts aside an address of Windows that is really the BMC's, a common slip of
// exports: a BMC that answers would count as a sign of life.
func (r *rows) checkAddress() {
	if r.host.Address == "" {
		return
	}
	for _, way := range r.host.Routes {
		if way.Driver != "redfish" && way.Driver != "ipmi" || hostOf(way.Address) != hostOf(r.host.Address) {
			continue
		}
		for i := range r.cols {
			if r.cols[i].field == "address" && !isLoopback(r.host.Address) {
				r.aside(&r.cols[i], r.host.Address, "the address of the BMC, not of Windows", "where Windows answers, or nothing")
				r.host.Address = ""
				return
			}
		}
	}
}

func isLoopback(a string) bool {
	h := hostOf(a)
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.IsLoopback()
}

// hostOf returns the host of an address or URL in lower case.
func hostOf(a string) string {
	if _, rest, ok := strings.Cut(a, "://"); ok {
		a, _, _ = strings.Cut(rest, "/")
	}
	if h, _, err := net.SplitHostPort(a); err == nil {
		a = h
	}
	return strings.ToLower(strings.Trim(a, "[]"))
}

// text64 sets a field of free text that must fit on a line.
func text64(at func(*inventory.Host) *string) setter {
	return func(r *rows, _ *column, v string) error {
		*at(&r.host) = v
		return printable(v)
	}
}

func printable(v string) error {
	for _, c := range v {
		if !unicode.IsPrint(c) {
			return &inventory.ValueError{Reason: "holds a character that cannot be shown (" + strconv.QuoteRuneToASCII(c) + ")", Want: "text on one line"}
		}
	}
	return nil
}

func setCountry(r *rows, _ *column, v string) (err error) {
	r.host.Country, err = calendar.ParseCountry(v)
	return err
}

func setZone(r *rows, _ *column, v string) error {
	r.host.TimeZone = v
	_, err := r.zones.Zone(v)
	return err
}

func setOpens(r *rows, _ *column, v string) error {
	r.host.Opens = v
	_, err := calendar.ParseHours(v)
	return err
}

func setTier(r *rows, _ *column, v string) (err error) {
	if r.host.Tier, err = inventory.ParseTier(v); err != nil {
		return &inventory.ValueError{Reason: "not a tier", Want: "dependency, critical, normal or low"}
	}
	return nil
}

func setLabel(r *rows, c *column, v string) error {
	if r.host.Labels == nil {
		r.host.Labels = make(map[string]string, 4)
	}
	r.host.Labels[c.title] = v
	return nil
}

// route sets a way in, whose driver is the field's name.
func route(check func(string) error) setter {
	return func(r *rows, c *column, v string) error {
		if err := printable(v); err != nil {
			return err
		}
		if mayHoldLogin(v) {
			return &inventory.ValueError{Reason: "holds a user name or password", Want: "the address alone; logins are named in unbrick.yaml by reference"}
		}
		r.host.Routes = append(r.host.Routes, inventory.Route{Driver: c.field, Address: v})
		return check(v)
	}
}

// mayHoldLogin says that an address carries what belongs to a login: "user:password@host" or
// a query. Such a value is not repeated.
func mayHoldLogin(v string) bool {
	at := strings.LastIndexByte(v, '@')
	return at >= 0 && strings.Contains(v[:at], ":") || strings.Contains(v, "://") && strings.ContainsAny(v, "?@")
}

// hostOrURL takes "10.0.0.5", "bmc7:8443", "[fe80::1]:443" or an http or https URL.
func hostOrURL(v string) error {
	if !strings.Contains(v, "://") {
		return hostPort(v)
	}
	bad := &inventory.ValueError{Reason: "not an address", Want: "https://host[:port] or host[:port]"}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || hostPort(u.Host) != nil {
		return bad
	}
	return nil
}

// hostPort takes a name or an IP address, with or without a port.
func hostPort(v string) error {
	bad := &inventory.ValueError{Reason: "not an address", Want: "a name or IP address, with :port if need be"}
	if _, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		host = v
	} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return bad
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if looksNumeric(host) { // 10.0.0.256: no name, and no address either
		return bad
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) || host[0] == '-' || host[0] == '.' || strings.Contains(host, "..") {
		return bad
	}
	return nil
}

func looksNumeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == ""
}

func macOnly(v string) error {
	_, err := inventory.ParseMAC(v)
	return err
}

// anyAddress leaves it to the driver to judge the address.
func anyAddress(string) error { return nil }
