package ec2

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// An address names an instance, as a route has it:
//
//	ap-southeast-2/i-0123456789abcdef0
//	ap-southeast-2/i-0123456789abcdef0?profile=prod    in the account of that profile of ~/.aws
//	i-0123456789abcdef0                                in the region of the configuration
//	arn:aws:ec2:ap-southeast-2:123456789012:instance/i-0123456789abcdef0
type address struct {
	region, instance, profile string
}

var (
	instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
	regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d+$`)
)

func parseAddress(text string) (a address, err error) {
	bad := fmt.Errorf("%q is no address of an instance\nwrite REGION/i-0123456789abcdef0, with ?profile=NAME for another account", text)
	rest, query, _ := strings.Cut(text, "?")
	q, err := url.ParseQuery(query)
	if err != nil || len(q) > 1 || len(q) == 1 && q.Get("profile") == "" {
		return a, bad
	}
	a.profile = q.Get("profile")
	if fields := strings.Split(rest, ":"); fields[0] == "arn" {
		if len(fields) != 6 || fields[2] != "ec2" {
			return address{}, bad
		}
		name, ok := strings.CutPrefix(fields[5], "instance/")
		if !ok || fields[3] == "" {
			return address{}, bad
		}
		rest = fields[3] + "/" + name
	}
	a.instance = rest
	if region, name, ok := strings.Cut(rest, "/"); ok {
		a.region, a.instance = region, name
		if !regionName.MatchString(region) {
			return address{}, bad
		}
	}
	if !instanceID.MatchString(a.instance) {
		return address{}, bad
	}
	return a, nil
}
