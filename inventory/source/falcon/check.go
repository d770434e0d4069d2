package falcon

import (
	"context"
	"errors"
	"net/url"

	"unbrick/inventory"
	"unbrick/inventory/rest"
)

// lacks names the scope that a refusal is about.
func lacks(err error) error {
	if !rest.Forbids(err) {
		return err
	}
	return &inventory.RightError{Right: "the API scope Hosts: Read", Where: "Support and resources > API clients and keys: edit the client", Err: err}
}

// Check implements [inventory.Checker].
func (s *Source) Check(ctx context.Context) error {
	v := url.Values{"filter": {s.filter}, "limit": {"1"}, "sort": {"device_id.asc"}}
	var page struct {
		Errors    failures `json:"errors"`
		Resources []string `json:"resources"`
	}
	if _, err := s.client.Get(ctx, "/devices/queries/devices-scroll/v1?"+v.Encode(), &page); err != nil {
		return lacks(err)
	}
	if err := page.Errors.err(); err != nil {
		return err
	}
	if len(page.Resources) == 0 {
		return errors.New("it lists no host: the filter fits none, or the client is one of another CID")
	}
	_, err := s.details(ctx, page.Resources[:1])
	return err
}
