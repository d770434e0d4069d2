package ec2test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An apiError is a refusal.
type apiError struct {
	status        int
	code, message string
}

func refuse(code, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// An action is one of the API: what it does, which parameters it has, and whether it changes
// anything.
type action struct {
	do      func(*Server, url.Values) (any, *apiError)
	params  string // names, lists with their number left out
	changes bool
}

func actions() map[string]action {
	return map[string]action{
		"DescribeInstances":         {(*Server).describeInstances, "InstanceId Filter.Name Filter.Value MaxResults NextToken", false},
		"DescribeVolumes":           {(*Server).describeVolumes, "VolumeId Filter.Name Filter.Value MaxResults NextToken", false},
		"DescribeSnapshots":         {(*Server).describeSnapshots, "SnapshotId Owner Filter.Name Filter.Value MaxResults NextToken", false},
		"DescribeInstanceTypes":     {(*Server).describeTypes, "InstanceType", false},
		"DescribeInstanceAttribute": {(*Server).describeAttribute, "InstanceId Attribute", false},
		"StopInstances":             {(*Server).stop, "InstanceId Force SkipOsShutdown Hibernate", true},
		"StartInstances":            {(*Server).start, "InstanceId", true},
		"AttachVolume":              {(*Server).attach, "VolumeId InstanceId Device", true},
		"DetachVolume":              {(*Server).detach, "VolumeId InstanceId Device Force", true},
		"ModifyInstanceAttribute":   {(*Server).modify, "InstanceId DisableApiStop.Value BlockDeviceMapping.DeviceName BlockDeviceMapping.Ebs.DeleteOnTermination", true},
		"CreateSnapshot":            {(*Server).snapshot, "VolumeId Description TagSpecification.ResourceType TagSpecification.Tag.Key TagSpecification.Tag.Value", true},
		"DeleteSnapshot":            {(*Server).deleteSnapshot, "SnapshotId", true},
		"CreateTags":                {(*Server).createTags, "ResourceId Tag.Key Tag.Value", true},
	}
}

// Changes says whether a request is there to change something. Its form can still be read.
func Changes(r *http.Request) bool {
	form, err := readForm(r)
	return err == nil && form.Get("DryRun") != "true" && actions()[form.Get("Action")].changes
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Amz-Target") != "" {
		s.serveSSM(w, r)
		return
	}
	form, err := readForm(r)
	if err != nil {
		answer(w, nil, refuse("MalformedQueryString", "%v", err))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[form.Get("Action")]++
	if e := s.authentic(r, "ec2"); e != nil {
		answer(w, nil, e)
		return
	}
	out, e := s.act(form)
	answer(w, out, e)
}

// act does what is asked, if it may and can be asked so.
func (s *Server) act(form url.Values) (any, *apiError) {
	name := form.Get("Action")
	a, ok := actions()[name]
	if !ok || form.Get("Version") != "2016-11-15" {
		return nil, refuse("InvalidAction", "The action %s is not valid for this web service.", name)
	}
	for key := range form {
		known := strings.Fields(a.params + " Action Version DryRun")
		if plain := numbers.ReplaceAllString(key, ""); !slices.Contains(known, plain) {
			return nil, refuse("UnknownParameter", "The parameter %s is not recognized", key)
		}
	}
	if s.Denied[name] { // ERR: 403, with an encoded message
		return nil, &apiError{http.StatusForbidden, "UnauthorizedOperation", "You are not authorized to perform this operation. Encoded authorization failure message: c2VjcmV0"}
	}
	if form.Get("DryRun") == "true" { // ERR: the answer to a dry run is an error in both cases
		return nil, &apiError{http.StatusPreconditionFailed, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."}
	}
	return a.do(s, form)
}

// numbers are those of list elements: Filter.1.Value.2.
var numbers = regexp.MustCompile(`\.\d+`)

func answer(w http.ResponseWriter, out any, e *apiError) {
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	if e == nil {
		_ = xml.NewEncoder(w).Encode(out)
		return
	}
	type item struct {
		Code, Message string
	}
	w.WriteHeader(e.status)
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName   xml.Name `xml:"Response"`
		Errors    []item   `xml:"Errors>Error"`
		RequestID string
	}{Errors: []item{{e.code, e.message}}, RequestID: "59dbff89-35bd-4eac-99ed-be587EXAMPLE"})
}

// Throttle refuses a request as EC2 does when there are too many (API, "Request throttling").
func Throttle(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &apiError{http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."})
}

// Refuse refuses a request as EC2 does when a right is missing.
func Refuse(w http.ResponseWriter, _ *http.Request) {
	answer(w, nil, &apiError{http.StatusForbidden, "UnauthorizedOperation", "You are not authorized to perform this operation."})
}

// list returns the values of a list parameter in order.
func list(form url.Values, name string) (all []string) {
	for n := 1; form.Has(fmt.Sprint(name, ".", n)); n++ {
		all = append(all, form.Get(fmt.Sprint(name, ".", n)))
	}
	return all
}

// A filter keeps what has one of the values.
type filter struct {
	name   string
	values []string
}

// filters reads those of a request. API: 200 values in one at most; no other names.
func filters(form url.Values, known ...string) (all []filter, e *apiError) {
	for n := 1; form.Has(fmt.Sprintf("Filter.%d.Name", n)); n++ {
		f := filter{form.Get(fmt.Sprintf("Filter.%d.Name", n)), list(form, fmt.Sprintf("Filter.%d.Value", n))}
		if !slices.Contains(known, f.name) && !strings.HasPrefix(f.name, "tag:") {
			return nil, refuse("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
		if len(f.values) > 200 {
			return nil, refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200")
		}
		all = append(all, f)
	}
	return all, nil
}

// keeps says whether a thing with these properties and tags passes.
func keeps(all []filter, properties, tags map[string]string) bool {
	for _, f := range all {
		have, ok := properties[f.name]
		if key, isTag := strings.CutPrefix(f.name, "tag:"); isTag {
			have, ok = tags[key]
		}
		if f.name == "tag-key" && slices.ContainsFunc(f.values, func(v string) bool { return hasKey(tags, v) }) {
			continue
		}
		if !ok || !slices.ContainsFunc(f.values, func(v string) bool { return like(v, have) }) {
			return false
		}
	}
	return true
}

// hasKey says whether there is a tag by that name, whatever its value.
func hasKey(tags map[string]string, pattern string) bool {
	return slices.ContainsFunc(sorted(tags), func(key string) bool { return like(pattern, key) })
}

// like compares with EC2's wildcards.
func like(pattern, text string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return pattern == text
	}
	expr := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("^(?:" + expr + ")$").MatchString(text)
}

// page cuts the ids of a list. API, "Pagination": with MaxResults alone are there pages; it has
// limits, and does not go with ids.
func (s *Server) page(form url.Values, ids []string, least, most int, byID bool) (some []string, next string, e *apiError) {
	from := 0
	if token := form.Get("NextToken"); token != "" {
		var ok bool
		if from, ok = s.pages[token]; !ok {
			return nil, "", refuse("InvalidPaginationToken", "The pagination token is invalid")
		}
	}
	if !form.Has("MaxResults") {
		return ids[from:], "", nil
	}
	n, err := strconv.Atoi(form.Get("MaxResults"))
	if err != nil || n < least || n > most {
		return nil, "", refuse("InvalidParameterValue", "Value ( %s ) for parameter maxResults is invalid. Expecting a value from %d to %d.", form.Get("MaxResults"), least, most)
	}
	if byID {
		return nil, "", refuse("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	if s.PageCap > 0 {
		n = min(n, s.PageCap)
	}
	if from+n >= len(ids) {
		return ids[from:], "", nil
	}
	next = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "page %d", from+n))
	s.pages[next] = from + n
	return ids[from : from+n], next, nil
}

// sorted returns the ids of things in order.
func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
