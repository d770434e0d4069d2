package ec2test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/url"
	"slices"
)

// readTags returns the tags that a request has under a prefix.
func readTags(form url.Values, prefix string) map[string]string {
	tags := map[string]string{}
	for n := 1; form.Has(fmt.Sprint(prefix, n, ".Key")); n++ {
		tags[form.Get(fmt.Sprint(prefix, n, ".Key"))] = form.Get(fmt.Sprint(prefix, n, ".Value"))
	}
	return tags
}

// createTags. API, CreateTags: of a tag that is there it changes the value.
func (s *Server) createTags(form url.Values) (any, *apiError) {
	tags := readTags(form, "Tag.")
	if len(tags) == 0 {
		return nil, refuse("MissingParameter", "The request must contain the parameter Tag")
	}
	ids := list(form, "ResourceId")
	for _, id := range ids {
		if s.tagsOf(id) == nil {
			return nil, refuse("InvalidID", "The ID '%s' is not valid", id)
		}
	}
	for _, id := range ids {
		of := s.tagsOf(id)
		all := map[string]string{}
		maps.Copy(all, *of) // the one that is there may be the caller's of Launch
		maps.Copy(all, tags)
		*of = all
	}
	s.changes++
	return done("CreateTagsResponse"), nil
}

// tagsOf returns the tags of whatever has this id, or nil.
func (s *Server) tagsOf(id string) *map[string]string {
	switch in, v, n := s.instances[id], s.volumes[id], s.snapshots[id]; {
	case in != nil:
		return &in.Tags
	case v != nil:
		return &v.Tags
	case n != nil:
		return &n.Tags
	}
	return nil
}

type snapshotXML struct {
	ID          string   `xml:"snapshotId"`
	Volume      string   `xml:"volumeId"`
	Status      string   `xml:"status"`
	Description string   `xml:"description"`
	Tags        []tagXML `xml:"tagSet>item"`
}

func (n *Snapshot) xml() snapshotXML {
	return snapshotXML{n.ID, n.Volume, "pending", n.Description, tagsXML(n.Tags)}
}

// snapshot. API, CreateSnapshot: it has no request token, so that twice makes two.
func (s *Server) snapshot(form url.Values) (any, *apiError) {
	v := s.volumes[form.Get("VolumeId")]
	if v == nil {
		return nil, noVolume(form.Get("VolumeId"))
	}
	s.n++
	n := &Snapshot{ID: fmt.Sprintf("snap-%017x", s.n), Volume: v.ID, Description: form.Get("Description"), Tags: readTags(form, "TagSpecification.1.Tag."), hidden: 1}
	s.snapshots[n.ID] = n
	s.changes++
	return struct {
		XMLName xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateSnapshotResponse"`
		snapshotXML
	}{snapshotXML: n.xml()}, nil
}

// deleteSnapshot. API, DeleteSnapshot: one that is not complete yet may go too.
func (s *Server) deleteSnapshot(form url.Values) (any, *apiError) {
	id := form.Get("SnapshotId")
	if s.snapshots[id] == nil {
		return nil, noSnapshot(id)
	}
	delete(s.snapshots, id)
	s.changes++
	return done("DeleteSnapshotResponse"), nil
}

// describeSnapshots. API, DescribeSnapshots: pages of 5 to 1,000; not with ids.
func (s *Server) describeSnapshots(form url.Values) (any, *apiError) {
	fs, e := filters(form, "volume-id", "status", "snapshot-id")
	if e != nil {
		return nil, e
	}
	ids := list(form, "SnapshotId")
	for _, id := range ids {
		if s.snapshots[id] == nil {
			return nil, noSnapshot(id)
		}
	}
	var found []string
	for _, id := range sorted(s.snapshots) {
		n := s.snapshots[id]
		properties := map[string]string{"snapshot-id": id, "volume-id": n.Volume, "status": "pending"}
		if len(ids) > 0 && !slices.Contains(ids, id) || !keeps(fs, properties, n.Tags) {
			continue
		}
		if n.hidden > 0 {
			n.hidden--
			continue
		}
		found = append(found, id)
	}
	found, next, e := s.page(form, found, 5, 1000, len(ids) > 0)
	if e != nil {
		return nil, e
	}
	out := struct {
		XMLName   xml.Name      `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeSnapshotsResponse"`
		Snapshots []snapshotXML `xml:"snapshotSet>item"`
		Next      string        `xml:"nextToken,omitempty"`
	}{Next: next}
	for _, id := range found {
		out.Snapshots = append(out.Snapshots, s.snapshots[id].xml())
	}
	return out, nil
}

func noSnapshot(id string) *apiError {
	return refuse("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
}
