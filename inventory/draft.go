package inventory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// A Draft is a host as it is put together from a record of another system. Such a record cannot
// be mended in the middle of the night: a value that is wrong is put aside with a warning, and
// the host is used without it. Only a name that cannot be one is a problem.
type Draft struct {
	Host Host
	// Check returns what is to be kept of a country, a time zone or opening hours; calendar's
	// Calendar.Check does. Nil keeps all.
	Check func(field, value string) (string, error)

	place string // of the record, for errors
	id    string // see Twin
	notes []*RowError
}

// NewDraft begins a host. Record says which one of the place it is, for errors: an id.
func NewDraft(at Origin, record string) *Draft {
	return &Draft{Host: Host{Tier: Normal, From: []Origin{at}}, place: strings.TrimSpace(at.Place + " " + record)}
}

// Seen notes when the system last heard of the host; the zero time says nothing.
func (d *Draft) Seen(at time.Time, lag time.Duration) {
	d.Host.From[0].Seen, d.Host.From[0].Lag = at, lag
	if at.IsZero() {
		d.Host.From[0].Lag = 0
	}
}

// aside reports a value that is not used.
func (d *Draft) aside(column, v string, err error) {
	e := &RowError{Place: d.place, Line: d.Host.From[0].Line, Column: column, Value: v, Reason: err.Error(), Warning: true}
	var ve *ValueError
	if errors.As(err, &ve) {
		e.Reason, e.Want = ve.Reason, ve.Want
	}
	d.notes = append(d.notes, e)
}

// Name sets the name. Of a name with a domain in Windows's way, CORP\PC1, only the name counts.
func (d *Draft) Name(column, v string) {
	if d.Host.Name != "" {
		return
	}
	_, v = cutLast(strings.TrimSpace(v), `\`)
	if v == "" {
		return
	}
	name, err := ParseName(v)
	if err != nil {
		d.aside(column, tidy(v), err)
		d.notes[len(d.notes)-1].Warning = false
		return
	}
	d.Host.Name = name
}

// Twin says by what a host is told from another of its source that has the same name: an id. If
// there is such a one, the name of each gets its id behind it, and a warning, whatever the order
// in which they come. Read holds such drafts, and what follows them, back until it has seen all.
func (d *Draft) Twin(id string) { d.id = id }

// apart gives drafts that have one name their ids.
func apart(all []*Draft) {
	same := map[string][]*Draft{}
	for _, d := range all {
		if d.Host.Name != "" && d.id != "" {
			key := strings.ToLower(d.Host.Name)
			same[key] = append(same[key], d)
		}
	}
	for _, twins := range same {
		if len(twins) < 2 {
			continue
		}
		for _, d := range twins {
			was := d.Host.Name
			name, err := ParseName(was + "-" + d.id)
			if err != nil {
				continue // it will be said that the name is there twice
			}
			d.Host.Name = name
			d.Label("shared_name", was)
			d.aside("name", was, &ValueError{fmt.Sprintf("%d hosts of this source have this name: this one is called %s", len(twins), name), "a name for each"})
		}
	}
}

func cutLast(s, sep string) (string, string) {
	i := strings.LastIndex(s, sep)
	return s[:max(i, 0)], s[i+1:]
}

// Serial, UUID and MAC set what a host is recognised by, unless it is what firmware shows where
// there is nothing.
func (d *Draft) Serial(column, v string) {
	if v = d.clean(column, v); v == "" {
		return
	}
	if FakeSerial(v) {
		d.aside(column, v, &ValueError{"what firmware shows where there is no serial number", "the host's own, or nothing"})
		return
	}
	d.Host.Serial = v
}

// UUID sets the SMBIOS UUID.
func (d *Draft) UUID(column, v string) {
	if v = d.clean(column, v); v == "" {
		return
	}
	u, err := ParseUUID(v)
	if err == nil && FakeUUID(u) {
		err = &ValueError{"what firmware shows where there is no UUID", "the host's own SMBIOS UUID, or nothing"}
	}
	if err != nil {
		d.aside(column, v, err)
		return
	}
	d.Host.UUID = u
}

// MAC adds one address, or several that are separated by anything but colons and hyphens.
func (d *Draft) MAC(column, v string) {
	for m := range strings.FieldsFuncSeq(d.clean(column, v), func(r rune) bool { return strings.ContainsRune(",;| /", r) || unicode.IsSpace(r) }) {
		mac, err := ParseMAC(m)
		switch {
		case err != nil:
			d.aside(column, tidy(m), err)
		case !FakeMAC(mac) && !slices.Contains(d.Host.MAC, mac):
			d.Host.MAC = append(d.Host.MAC, mac)
		}
	}
}

// Text sets a field of free text, as Host.Site, unless it has a value already.
func (d *Draft) Text(field *string, column, v string) {
	if v = d.clean(column, v); v != "" && *field == "" {
		*field = v
	}
}

// checked sets a field that Check knows.
func (d *Draft) checked(field, column, v string) {
	if v = d.clean(column, v); v == "" {
		return
	}
	if field == "country" && len(v) > 2 { // "Germany": most systems have names
		d.Label("country_name", v)
		return
	}
	if d.Check != nil {
		good, err := d.Check(field, v)
		if err != nil {
			d.aside(column, v, err)
			return
		}
		v = good
	}
	at := map[string]*string{"country": &d.Host.Country, "timezone": &d.Host.TimeZone, "opens": &d.Host.Opens}[field]
	if *at == "" {
		*at = v
	}
}

// ways are the drivers whose addresses a source may know.
var ways = []string{"winrm", "redfish", "ipmi", "amt", "netboot", "ec2", "azure", "gce", "vsphere", "vsphere-iso", "hyperv", "libvirt", "proxmox", "openstack", "restart", "manual"}

// DraftFields returns the names that [Draft.Set] takes: those of fleet.csv, state, and the ways in.
func DraftFields() []string {
	var names []string
	for _, f := range textFields {
		names = append(names, f.name)
	}
	return append(append(names, "mac", "tier", "state"), ways...)
}

// CheckFields refuses a configuration that names fields that do not exist: such a slip would
// leave a column unread without a word.
func CheckFields(fields map[string]string) error {
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if all := DraftFields(); !slices.Contains(all, f) {
			return fmt.Errorf("no field %q; the fields are %s", f, strings.Join(all, ", "))
		}
	}
	return nil
}

// Set sets a field by its name, one of [DraftFields].
func (d *Draft) Set(field, column, v string) {
	h := &d.Host
	switch field {
	case "name":
		d.Name(column, v)
	case "serial":
		d.Serial(column, v)
	case "uuid":
		d.UUID(column, v)
	case "mac":
		d.MAC(column, v)
	case "tier":
		if v = d.clean(column, v); v != "" {
			tier, err := ParseTier(v)
			if err != nil {
				d.aside(column, v, &ValueError{"not a tier", "dependency, critical, normal or low"})
				return
			}
			h.Tier = tier
		}
	case "state":
		if h.State == "" {
			h.State = ParseState(v)
		}
	case "country", "timezone", "opens":
		d.checked(field, column, v)
	default:
		for _, f := range textFields {
			if f.name == field {
				d.Text(f.at(h), column, v)
				return
			}
		}
		d.Route(field, column, v)
	}
}

// Label keeps a value that no field is for.
func (d *Draft) Label(key, v string) {
	if v = d.clean(key, v); v == "" {
		return
	}
	if d.Host.Labels == nil {
		d.Host.Labels = make(map[string]string, 4)
	}
	d.Host.Labels[key] = v
}

// Route adds a way in.
func (d *Draft) Route(driver, column, address string) {
	if address = d.clean(column, address); address == "" {
		return
	}
	if strings.ContainsAny(address, " \t@") {
		d.aside(column, "", &ValueError{"no address", "a host, an IP address or a URL without a login in it"})
		return
	}
	d.Host.Routes = append(d.Host.Routes, Route{driver, address})
}

// recoveryKey is a BitLocker recovery password, anywhere in a text.
var recoveryKey = regexp.MustCompile(`\d{6}([- ]\d{6}){7}`)

// clean returns a value on one line without surrounding space, and nothing of a word for nothing
// or of what must not be in an inventory.
func (d *Draft) clean(column, v string) string {
	v = strings.TrimSpace(v)
	if len(v) >= 55 && recoveryKey.MatchString(v) {
		d.aside(column, "", &ValueError{"holds a BitLocker recovery key", "no keys in an inventory; they come from a key source"})
		return ""
	}
	for _, word := range [...]string{"-", "--", "n/a", "none", "null", "(null)", "(empty)"} {
		if strings.EqualFold(v, word) {
			return ""
		}
	}
	return tidy(v)
}

// tidy makes a text fit to be shown.
func tidy(v string) string {
	v = strings.ToValidUTF8(v, "?")
	v = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, v)
	const most = 200
	for i := range v {
		if i >= most {
			return v[:i] + "…"
		}
	}
	return v
}

// finish yields what became of the record. A record without a name is left out with a warning:
// systems that know more than hosts have many.
func (d *Draft) finish(yield func(Host, error) bool) bool {
	bad := false
	for _, n := range d.notes {
		bad = bad || !n.Warning
	}
	if d.Host.Name == "" && !bad && d.Host.From != nil {
		d.aside("", d.Host.Serial, &ValueError{"a record without a host name; it is left out", "the name of the host, if it is one"})
	}
	for _, n := range d.notes {
		if !yield(Host{}, n) {
			return false
		}
	}
	return d.Host.Name == "" || yield(d.Host, nil)
}

// errStopped says that the consumer wants no more: nothing is yielded after it.
var errStopped = errors.New("stopped")

// Read makes of a function that emits drafts what [Source.Hosts] returns. What names the source
// in the error that ends it. Emit's error has to be returned.
func Read(ctx context.Context, what string, read func(emit func(*Draft) error) error) iter.Seq2[Host, error] {
	return func(yield func(Host, error) bool) {
		err := ctx.Err()
		if err == nil {
			var held []*Draft
			emit := func(d *Draft) error {
				if !d.finish(yield) {
					return errStopped
				}
				return ctx.Err()
			}
			err = read(func(d *Draft) error {
				if d.id == "" && len(held) == 0 {
					return emit(d)
				}
				held = append(held, d)
				return ctx.Err()
			})
			apart(held)
			for _, d := range held {
				if errors.Is(err, errStopped) || ctx.Err() != nil {
					break
				}
				if e := emit(d); e != nil {
					err = e
				}
			}
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Host{}, fmt.Errorf("cannot read hosts from %s: %w", what, err))
		}
	}
}

// A PartialError ends what a source yields that could read a part alone: the hosts before it are
// right, and others are missing. It must not pass for the whole, in which those are gone.
type PartialError struct {
	Missing string // "zone europe-west1-b does not answer"
	Want    string // what to do
}

// Error says both.
func (e *PartialError) Error() string { return e.Missing + ": its hosts are missing\n" + e.Want }

// Note is a warning in place of a host: that the source shows less than it has, for instance.
func Note(place, reason, want string) *Draft {
	return &Draft{place: place, notes: []*RowError{{Place: place, Reason: reason, Want: want, Warning: true}}}
}

// Problem makes the warning of a Note one of a row that cannot be used.
func (d *Draft) Problem() *Draft {
	for _, n := range d.notes {
		n.Warning = false
	}
	return d
}
