package leases

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"time"
)

// readISC reads dhcpd.leases (dhcpd.leases(5)): "lease ADDRESS { statements }", one statement on
// a line, times in UTC or as seconds since 1970. Declarations of other kinds are passed over.
func readISC(ctx context.Context, r *bufio.Reader, b *book) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	var l lease
	inside, other := false, 0
	starts, ends := time.Time{}, time.Time{}
	for n := 1; in.Scan(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line := strings.TrimSpace(in.Text())
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, ";"), " ")
		rest = strings.TrimSpace(rest)
		switch {
		case line == "" || line[0] == '#':
		case !inside && other == 0 && word == "lease" && strings.HasSuffix(line, "{"):
			l, inside, starts, ends = lease{address: strings.TrimSpace(strings.TrimSuffix(rest, "{")), line: n}, true, time.Time{}, time.Time{}
		case !inside:
			other = max(0, other+strings.Count(line, "{")-strings.Count(line, "}"))
		case line == "}":
			l.lasts = max(ends.Sub(starts), 0)
			if starts.IsZero() || ends.IsZero() {
				l.lasts = 0
			}
			if l.at.IsZero() {
				l.at = starts
			}
			b.put(l)
			inside = false
		case word == "starts":
			starts = b.iscTime(rest, n)
		case word == "ends":
			ends = b.iscTime(rest, n)
		case word == "cltt":
			l.at = b.iscTime(rest, n)
		case word == "binding":
			l.free = rest != "state active"
		case word == "hardware":
			_, l.mac, _ = strings.Cut(rest, " ")
		case word == "client-hostname":
			l.name = unquote(rest)
		case word == "set" && l.name == "":
			if name, value, ok := strings.Cut(rest, "="); ok && strings.TrimSpace(name) == "ddns-fwd-name" {
				l.name = unquote(strings.TrimSpace(value))
			}
		}
	}
	if inside {
		b.bad(l.line, "the lease has no end: was the file cut off?")
	}
	return in.Err()
}

// iscTime reads "4 2024/07/18 22:10:00", "epoch 1721340600; # …" or "never".
func (b *book) iscTime(s string, line int) time.Time {
	s, _, _ = strings.Cut(s, ";")
	day, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	if day == "never" {
		return time.Time{}
	}
	if day == "epoch" {
		if sec, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
			return time.Unix(sec, 0).UTC()
		}
	} else if at, err := time.Parse("2006/01/02 15:04:05", rest); err == nil {
		return at
	}
	b.bad(line, "not a time of a lease")
	return time.Time{}
}

// unquote takes the quotes away, and the octal escapes with which the server writes what is no
// letter: what is left is judged as a name like any other.
func unquote(s string) string {
	s = strings.Trim(s, `"`)
	if text, err := strconv.Unquote(`"` + s + `"`); err == nil {
		return text
	}
	return s
}
