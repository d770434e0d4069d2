package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

// checkLimit is how long a source may take to say whether it would give hosts.
const checkLimit = 10 * time.Second

// sources asks every source of sources: with its own account, all at once.
func (p *patient) sources() {
	if len(p.cfg.Sources) == 0 {
		return
	}
	all, err := openSources(p.cfg)
	if err != nil {
		p.missing("source", "the README describes sources: of unbrick.yaml", err)
		return
	}
	found := make([]diagnosis, len(all))
	var wg sync.WaitGroup
	for i, n := range all {
		wg.Go(func() { found[i] = checkSource(p.c.Context, n, p.cfg.secretsOf(n.Name)) })
	}
	wg.Wait()
	p.out = append(p.out, found...)
	p.cfg.down = map[string]error{} // reading them would only take its time to fail again
	for i, d := range found {
		if d.State == "missing" {
			p.cfg.down[all[i].Name] = errors.New(strings.TrimPrefix(d.Found, all[i].Name+": "))
		}
	}
}

// secretsOf lists what a source logs in with, as unbrick.yaml has it: "token: env:NETBOX_TOKEN".
func (c *config) secretsOf(source string) string {
	var all []string
	for i := range c.Sources {
		if e := &c.Sources[i]; e.name() == source {
			eachSecret(e.opener.config(), "", func(s placedSecret) {
				all = append(all, fmt.Sprintf("%s: %s", strings.TrimPrefix(s.place, "."), s.ref))
			})
		}
	}
	return strings.Join(all, ", ")
}

// checkSource asks one source.
func checkSource(ctx context.Context, n namedSource, secrets string) diagnosis {
	ctx, cancel := context.WithTimeout(rest.Briefly(ctx), checkLimit)
	defer cancel()
	err := inventory.Check(ctx, bare(n.Source))
	d := diagnosis{Check: "source", State: "ok", Found: n.Name + ": the account may read what is needed"}
	if n.Kind == "csv" || n.Kind == "ansible" || n.Kind == "leases" {
		d.Found = n.Name + ": the file can be read"
	}
	if err == nil {
		return d
	}
	var excess *inventory.ExcessError
	if errors.As(err, &excess) {
		d.State, d.Found, d.Hint = "warning", n.Name+": "+excess.Error(), "a login that can do less is worth less to whoever finds it: "+secrets
		return d
	}
	d.State, d.Found = "missing", fmt.Sprintf("%s: %v", n.Name, err)
	where := ""
	if n.Place != "" {
		where = ", " + n.Place + " of the configuration"
	}
	var right *inventory.RightError
	var status *rest.StatusError
	var login *rest.LoginError
	switch {
	case errors.As(err, &right):
		d.Right, d.Hint = right.Right, "grant it: "+right.Where
		if right.Without != "" {
			d.State = "warning"
		}
	case errors.Is(err, context.DeadlineExceeded):
		d.Hint = fmt.Sprintf("it did not answer within %v: the address, its name, a proxy or a firewall in between%s", checkLimit, where)
	case errors.As(err, &login), errors.As(err, &status) && status.Status == http.StatusUnauthorized:
		d.Hint = "look at what it logs in with: " + secrets + where
	case errors.As(err, &status):
		d.Hint = "is this the address of its API?" + where
	case secrets != "":
		d.Hint = "its address, its certificate (ca:), and what it logs in with: " + secrets + where
	default:
		d.Hint = "what it is asked for" + where
	}
	return d
}

// bare returns a source without what gives it another name, which hides its check.
func bare(s inventory.Source) inventory.Source {
	for {
		switch w := s.(type) {
		case renamed:
			s = w.Source
		case supplement:
			s = w.Source
		default:
			return s
		}
	}
}
