package leases

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keaColumns are those that a host is made of; the server has more with each version.
var keaColumns = []string{"address", "hwaddr", "valid_lifetime", "expire", "hostname", "state"}

// readKea reads the file of Kea's memfile backend: CSV whose later rows take the place of
// earlier ones. A state of 0 is in use, 1 declined, 2 given back.
func readKea(ctx context.Context, r *bufio.Reader, b *book) error {
	in := csv.NewReader(r)
	in.FieldsPerRecord, in.LazyQuotes, in.ReuseRecord = -1, true, true
	header, err := in.Read()
	if err != nil {
		return err
	}
	at := map[string]int{}
	for _, name := range keaColumns {
		if at[name] = slices.Index(header, name); at[name] < 0 {
			return fmt.Errorf("it has no column %q: is it a lease file of Kea's DHCPv4 server?", name)
		}
	}
	width := len(header)
	for n := 2; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || len(row) < width {
			b.bad(n, "not a row of the header's width: was the file cut off?")
			continue
		}
		expire, err1 := strconv.ParseInt(row[at["expire"]], 10, 64)
		valid, err2 := strconv.ParseInt(row[at["valid_lifetime"]], 10, 64)
		if err1 != nil || err2 != nil || valid < 0 || valid > 1<<32 {
			b.bad(n, "expire or valid_lifetime is not a number of seconds")
			continue
		}
		if valid == 0 { // the row that takes a lease away
			delete(b.last, strings.Clone(row[at["address"]]))
			continue
		}
		l := lease{address: strings.Clone(row[at["address"]]), mac: strings.Clone(row[at["hwaddr"]]), name: keaText(row[at["hostname"]]), line: n,
			free: row[at["state"]] != "0", lasts: time.Duration(valid) * time.Second, at: time.Unix(expire-valid, 0).UTC()}
		if valid == 1<<32-1 { // for ever: nothing says when the client asks again
			l.lasts = 0
		}
		b.put(l)
	}
}

// keaText undoes Kea's escapes: "&#x2c" is a comma.
func keaText(s string) string {
	return strings.Clone(strings.NewReplacer("&#x2c", ",", "&#x26", "&").Replace(s))
}
