package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"unbrick/inventory"
)

// networkVersion is that of the API that network cards are read with.
const networkVersion = "2024-05-01"

func networkAPI() url.Values { return url.Values{"api-version": {networkVersion}} }

const (
	cardsPath   = "/providers/Microsoft.Network/networkInterfaces"
	publicPath  = "/providers/Microsoft.Network/publicIPAddresses"
	cardsRight  = "Microsoft.Network/networkInterfaces/read"
	publicRight = "Microsoft.Network/publicIPAddresses/read"
)

// A card is a network card ("Network Interfaces - List All", reference of the Virtual Network
// REST API).
type card struct {
	ID         string `json:"id"`
	Properties struct {
		MAC     string `json:"macAddress"` // 00-0D-3A-1B-C7-21
		Primary bool   `json:"primary"`    // of its machine
		Machine struct {
			ID string `json:"id"`
		} `json:"virtualMachine"` // none: it is in no machine
		Configs []struct {
			Properties struct {
				Private string `json:"privateIPAddress"`
				Version string `json:"privateIPAddressVersion"`
				Primary bool   `json:"primary"` // of the card
				Public  struct {
					ID string `json:"id"`
				} `json:"publicIPAddress"`
			} `json:"properties"`
		} `json:"ipConfigurations"`
	} `json:"properties"`
}

// addresses are what is known of where machines are reached.
type addresses struct {
	cards  map[string][]card // by the id of the machine, in lower case; the primary one first
	public map[string]string // by the id of the public address, in lower case
	lacks  map[string]bool   // the rights that are missing to read them, which was said
}

func newAddresses() addresses {
	return addresses{cards: map[string][]card{}, public: map[string]string{}, lacks: map[string]bool{}}
}

// reached returns the addresses that the machine's are among, read when the first one is needed.
func (s *Source) reached(ctx context.Context, vm *armcompute.VirtualMachine, known map[string]addresses, emit func(*inventory.Draft) error) (a addresses, err error) {
	key := ""
	if at, err := ParseAddress(val(vm.ID)); err == nil {
		key = strings.ToLower(at.Subscription)
	}
	a, ok := known[key]
	switch {
	case key == "" || ok && len(s.ids) == 0:
		return a, nil
	case !ok && len(s.ids) == 0:
		a, err = s.network(ctx, key, emit)
	default:
		if !ok {
			a = newAddresses()
		}
		err = s.of(ctx, vm, a, emit)
	}
	known[key] = a
	return a, err
}

// network reads the cards of a subscription, or of its groups that are asked for, all in pages:
// not one request for each host. Where the right is missing, hosts go without and a note says so.
func (s *Source) network(ctx context.Context, subscription string, emit func(*inventory.Draft) error) (a addresses, err error) {
	a = newAddresses()
	for _, scope := range s.scopes(subscription) {
		cards, err := List[card](ctx, s.client, scope+cardsPath, networkAPI())
		if err = s.without(ctx, err, cardsRight, scope, a, emit); err != nil {
			return a, err
		}
		for _, c := range cards {
			a.add(c)
		}
		if !s.cfg.Public {
			continue
		}
		all, err := List[public](ctx, s.client, scope+publicPath, networkAPI())
		if err = s.without(ctx, err, publicRight, scope, a, emit); err != nil {
			return a, err
		}
		for _, p := range all {
			a.public[strings.ToLower(p.ID)] = p.Properties.Address
		}
	}
	return a, nil
}

// checkNetwork reads one row of each list that network reads, or the cards of one machine.
func (s *Source) checkNetwork(ctx context.Context, vm *armcompute.VirtualMachine) error {
	at, err := ParseAddress(val(vm.ID))
	if err != nil {
		return nil
	}
	right, where := cardsRight, s.scopes(at.Subscription)[0]
	var rows any
	if len(s.ids) > 0 {
		where = at.ID()
		a := newAddresses()
		err = s.of(ctx, vm, a, func(*inventory.Draft) error { return errLacks })
		if a.lacks[publicRight] {
			right = publicRight
		}
	} else if err = s.client.Read(ctx, where+cardsPath, networkAPI(), &rows); err == nil && s.cfg.Public {
		right, err = publicRight, s.client.Read(ctx, where+publicPath, networkAPI(), &rows)
	}
	if errors.Is(err, errLacks) || status(err) == http.StatusForbidden {
		return &inventory.RightError{Right: right + " on " + where, Where: "a role with it there; Reader has it", Without: loss(right)}
	}
	return explain(ctx, err)
}

// errLacks is what a check makes of a note.
var errLacks = errors.New("a right is missing")

// public is a public address ("Public IP Addresses - List All").
type public struct {
	ID         string `json:"id"`
	Properties struct {
		Address string `json:"ipAddress"` // none while it is dynamic and its machine deallocated
	} `json:"properties"`
}

// scopes are what is listed of a subscription.
func (s *Source) scopes(subscription string) (all []string) {
	root := "/subscriptions/" + subscription
	for _, group := range s.cfg.Groups {
		all = append(all, root+"/resourceGroups/"+url.PathEscape(group))
	}
	if len(all) == 0 {
		all = []string{root}
	}
	return all
}

// without makes a note of a right that is missing.
func (s *Source) without(ctx context.Context, err error, right, scope string, a addresses, emit func(*inventory.Draft) error) error {
	if status(err) != http.StatusForbidden {
		return explain(ctx, err)
	}
	if a.lacks[right] {
		return nil
	}
	a.lacks[right] = true
	return emit(inventory.Note("Azure", fmt.Sprintf("the account lacks %s on %s: %s", right, scope, loss(right)), "a role with that right there, such as Reader"))
}

// loss says how hosts are without a right.
func loss(right string) string {
	if right == publicRight {
		return "hosts have their private addresses"
	}
	return "hosts have no addresses, and are looked for by their names"
}

// status is that of a refusal, or 0.
func status(err error) int {
	if r := (*Refusal)(nil); errors.As(Explain(err), &r) {
		return r.Status
	}
	return 0
}

func (a addresses) add(c card) {
	at := strings.ToLower(c.Properties.Machine.ID)
	if at == "" {
		return
	}
	if c.Properties.Primary {
		a.cards[at] = slices.Insert(a.cards[at], 0, c)
		return
	}
	a.cards[at] = append(a.cards[at], c)
}

// of reads the cards of one machine by their ids: where ids are asked for, their neighbours are
// nobody's business.
func (s *Source) of(ctx context.Context, vm *armcompute.VirtualMachine, a addresses, emit func(*inventory.Draft) error) error {
	if vm.Properties == nil || vm.Properties.NetworkProfile == nil {
		return nil
	}
	for _, n := range vm.Properties.NetworkProfile.NetworkInterfaces {
		var c card
		if there, err := s.one(ctx, val(n.ID), cardsRight, a, emit, &c); err != nil || !there {
			if err != nil {
				return err
			}
			continue
		}
		c.Properties.Machine.ID = val(vm.ID)
		a.add(c)
		for _, config := range c.Properties.Configs {
			id := config.Properties.Public.ID
			if id == "" || !s.cfg.Public {
				continue
			}
			var p public
			if _, err := s.one(ctx, id, publicRight, a, emit, &p); err != nil {
				return err
			}
			a.public[strings.ToLower(id)] = p.Properties.Address
		}
	}
	return nil
}

// one reads a resource, if it is there and the right to read it is not known to be missing.
func (s *Source) one(ctx context.Context, id, right string, a addresses, emit func(*inventory.Draft) error, into any) (there bool, err error) {
	if a.lacks[right] {
		return false, nil
	}
	err = s.client.Read(ctx, id, networkAPI(), into)
	switch {
	case err == nil:
		return true, nil
	case status(err) == http.StatusNotFound:
		return false, nil
	}
	return false, s.without(ctx, err, right, id, a, emit)
}

// put gives a host the addresses of its machine: that of the primary card's primary
// configuration, private unless the public one is asked for and there is one.
func (a addresses) put(d *inventory.Draft, vm *armcompute.VirtualMachine) {
	for i, c := range a.cards[strings.ToLower(val(vm.ID))] {
		d.MAC("macAddress", c.Properties.MAC)
		if i > 0 {
			continue
		}
		address := ""
		for _, config := range c.Properties.Configs {
			p := config.Properties
			if address == "" || p.Primary {
				address = p.Private
				if known := a.public[strings.ToLower(p.Public.ID)]; known != "" {
					address = known
				}
			}
		}
		d.Text(&d.Host.Address, "privateIPAddress", address)
	}
}
