package ec2

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	source "unbrick/inventory/source/ec2"
	"unbrick/remediate/swap"
)

// nameOf is what a helper is called.
func nameOf(in *types.Instance) string {
	if name := source.Tags(in.Tags)["Name"]; name != "" {
		return name
	}
	return aws.ToString(in.InstanceId)
}

// tagged returns the tag that an entry of Options.Helpers names.
func tagged(helper string) (key, value string, ok bool) {
	if key, ok = strings.CutPrefix(helper, "tag:"); ok {
		key, value, ok = strings.Cut(key, "=")
	}
	return key, value, ok
}

// isHelper says whether the options name an instance.
func (o Options) isHelper(in *types.Instance) bool {
	tags := source.Tags(in.Tags)
	return slices.ContainsFunc(o.Helpers, func(h string) bool {
		if key, value, ok := tagged(h); ok {
			have, has := tags[key]
			return has && have == value
		}
		return h == aws.ToString(in.InstanceId) || h == tags["Name"]
	})
}

// fetchHelpers reads all instances that the options name, in one request for names, one for ids
// and one for each tag.
func (r *region) fetchHelpers(ctx context.Context, keys []string) (map[string][]types.Instance, error) {
	by := map[string][]string{}
	for _, h := range r.opt.Helpers {
		if key, value, ok := tagged(h); ok {
			by["tag:"+key] = append(by["tag:"+key], value)
		} else if instanceID.MatchString(h) {
			by["instance-id"] = append(by["instance-id"], h)
		} else {
			by["tag:Name"] = append(by["tag:Name"], h)
		}
	}
	var all []types.Instance
	for _, name := range slices.Sorted(maps.Keys(by)) {
		found, err := r.list(ctx, filter(name, by[name]...))
		if err != nil {
			return nil, err
		}
		for _, in := range found {
			if !slices.ContainsFunc(all, func(o types.Instance) bool { return aws.ToString(o.InstanceId) == aws.ToString(in.InstanceId) }) {
				all = append(all, in)
			}
		}
	}
	return map[string][]types.Instance{keys[0]: all}, nil
}

// fit returns the helpers that can take the volume of the instance, or why there is none.
func (in *instance) fit(ctx context.Context) (fit []types.Instance, err error) {
	all, _, err := in.helpers.get(ctx, "")
	if err != nil {
		return nil, err
	}
	why := []string{}
	for _, h := range all {
		not, err := in.unfit(ctx, &h)
		if err != nil {
			return nil, err
		}
		if not == "" {
			fit = append(fit, h)
		} else {
			why = append(why, fmt.Sprintf("%s (%s) %s", nameOf(&h), aws.ToString(h.InstanceId), not))
		}
	}
	if len(fit) > 0 {
		return fit, nil
	}
	text := fmt.Sprintf("no helper for %s runs in %s: start one there, of a Nitro type, with the helper's image and the tag Name %s", in.id, in.zone(), in.opt.Helpers[0])
	if len(why) > 0 {
		text += "\n" + strings.Join(why, "\n")
	}
	return nil, errors.New(text)
}

// unfit says why a helper cannot take the volume of the instance.
func (in *instance) unfit(ctx context.Context, h *types.Instance) (string, error) {
	switch {
	case aws.ToString(h.InstanceId) == in.id:
		return "is the host itself", nil
	case zoneOf(h) != in.zone():
		return "is in " + zoneOf(h), nil
	case h.State == nil || h.State.Name != types.InstanceStateNameRunning:
		return "does not run", nil
	case isWindows(h):
		return "runs Windows: it may have the same faulty file, and the same disk signature; the helper's image is what serves", nil
	case aws.ToString(h.ImageId) == aws.ToString(in.seen.ImageId):
		return "is made from the same image as the host: it has the same faulty file, or the same disk signature", nil
	}
	kind, err := in.kind(ctx, h.InstanceType)
	if err != nil {
		return "", err
	}
	if kind.EbsInfo == nil || kind.EbsInfo.NvmeSupport == types.EbsNvmeSupportUnsupported {
		return fmt.Sprintf("is of type %s, which does not show the ids of volumes: a Nitro type does", h.InstanceType), nil
	}
	return "", nil
}

// isWindows says what EC2 says of an instance: "windows", and "Windows" in the SDK's list.
func isWindows(in *types.Instance) bool {
	return strings.EqualFold(string(in.Platform), string(types.PlatformValuesWindows))
}

func (in *instance) zone() string { return zoneOf(&in.seen) }

func zoneOf(in *types.Instance) string {
	if in.Placement == nil {
		return ""
	}
	return aws.ToString(in.Placement.AvailabilityZone)
}

// Helpers implements swap.Instance.
func (in *instance) Helpers(ctx context.Context) ([]swap.Helper, error) {
	fit, err := in.fit(ctx)
	var all []swap.Helper
	for _, h := range fit {
		all = append(all, swap.Helper{Name: nameOf(&h), Lent: lent(&h)})
	}
	return all, err
}

// lent counts the volumes of others on a helper.
func lent(h *types.Instance) (n int) {
	for _, m := range h.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) != aws.ToString(h.RootDeviceName) {
			n++
		}
	}
	return n
}

// devices are the names under which a helper can have volumes ("Device names for volumes", EC2
// User Guide). What Linux calls them has nothing to do with that.
func devices() (all []string) {
	for c := 'f'; c <= 'p'; c++ {
		all = append(all, fmt.Sprintf("/dev/sd%c", c))
	}
	for _, first := range "bc" {
		for c := 'a'; c <= 'z'; c++ {
			all = append(all, fmt.Sprintf("/dev/xvd%c%c", first, c))
		}
	}
	return all
}

// free returns the names that a helper has free, beginning at a place that the volume says:
// volumes that are hung up at the same time do not all want the same one.
func free(h *types.Instance, volume string) []string {
	all := devices()
	sum := fnv.New32a()
	sum.Write([]byte(volume))
	at := int(sum.Sum32() % uint32(len(all)))
	all = append(all[at:], all[:at]...)
	return slices.DeleteFunc(all, func(name string) bool {
		return slices.ContainsFunc(h.BlockDeviceMappings, func(m types.InstanceBlockDeviceMapping) bool { return aws.ToString(m.DeviceName) == name })
	})
}
