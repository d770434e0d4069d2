package ec2_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/ec2"
	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/ec2/ec2test"
)

const where = "ap-southeast-2"

// yard is a region with instances of every kind: six Windows hosts, and what is none.
func yard(t *testing.T) *ec2test.Server {
	t.Helper()
	s := ec2test.New(where)
	t.Setenv("AWS_ACCESS_KEY_ID", s.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, t.TempDir()+"/none")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for n := range 6 {
		s.Launch(ec2test.Instance{Platform: "windows", Tags: map[string]string{"Name": fmt.Sprint("WS-", n), "Patch": []string{"a", "b"}[n%2]}}, ec2test.Volume{})
	}
	s.Launch(ec2test.Instance{Tags: map[string]string{"Name": "linux"}}, ec2test.Volume{})
	s.Launch(ec2test.Instance{Platform: "windows", State: "terminated", Tags: map[string]string{"Name": "gone"}}, ec2test.Volume{})
	return s
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func open(t *testing.T, h http.Handler, change func(*ec2.Config)) *ec2.Source {
	t.Helper()
	cfg := ec2.Config{Regions: []string{where}, Endpoint: serve(t, h), Page: 5}
	if change != nil {
		change(&cfg)
	}
	s, err := ec2.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTwins: instances of one group have one tag Name.
func TestTwins(t *testing.T) {
	s := yard(t)
	for _, name := range []string{"web", "WEB", "web"} {
		s.Launch(ec2test.Instance{Platform: "windows", Tags: map[string]string{"Name": name}}, ec2test.Volume{})
	}
	f, err := inventory.Load(t.Context(), inventory.Options{}, open(t, s, nil))
	if err != nil {
		t.Fatal(err)
	}
	twins := 0
	for _, h := range f.Hosts {
		if strings.HasPrefix(strings.ToLower(h.Name), "web") {
			twins++
			if !strings.EqualFold(h.Name, "web-"+h.Labels["instance"]) || !strings.EqualFold(h.Labels["shared_name"], "web") {
				t.Errorf("%s, %v", h.Name, h.Labels)
			}
		}
	}
	if twins != 3 || len(f.Hosts) != 9 || f.Warnings.Total != 3 || !strings.Contains(f.Warnings.First[0].Place, " i-") {
		t.Errorf("%d of %d hosts, warnings %v", twins, len(f.Hosts), f.Warnings.First)
	}
}

// after lets so many requests through, and then answers with an error of EC2's.
func after(n int64, s http.Handler, then http.HandlerFunc) http.Handler {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > n {
			then(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

// throttled refuses every other request.
func throttled(s http.Handler) http.Handler {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 1 {
			ec2test.Throttle(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names: []string{"WS-0", "WS-1", "WS-2", "WS-3", "WS-4", "WS-5"},
		Good: func(t *testing.T) inventory.Source {
			s := yard(t)
			s.PageCap = 2
			return open(t, s, nil)
		},
		Broken: func(t *testing.T) inventory.Source {
			s := yard(t)
			s.PageCap = 2
			return open(t, after(2, s, ec2test.Refuse), nil)
		},
	})
}

func names(t *testing.T, src inventory.Source) (all []string, hosts map[string]inventory.Host) {
	t.Helper()
	hosts = map[string]inventory.Host{}
	for h, err := range src.Hosts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
		hosts[h.Name] = h
	}
	return all, hosts
}

func TestPicks(t *testing.T) {
	s := yard(t)
	stopped := s.Instances()[1]
	s.Set(stopped, "", func(in *ec2test.Instance, _ *ec2test.Volume) { in.State = "stopped" })
	ids := make([]string, 0, 201) // more than a filter takes
	for n := range 199 {
		ids = append(ids, fmt.Sprintf("i-%017x", 0xabc000+n))
	}
	ids = append(ids, s.Instances()[:2]...)
	for want, change := range map[string]func(*ec2.Config){
		"WS-1 WS-3 WS-5":                      func(c *ec2.Config) { c.Filters = map[string]string{"tag:Patch": "b"} },
		"WS-0 WS-2 WS-3 WS-4 WS-5":            func(c *ec2.Config) { c.Running = true },
		"WS-0 WS-1":                           func(c *ec2.Config) { c.IDs = ids },
		"WS-0 WS-1 WS-2 WS-3 WS-4 WS-5 linux": func(c *ec2.Config) { c.All = true },
	} {
		got, _ := names(t, open(t, s, change))
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, _ := names(t, open(t, throttled(s), nil)); len(got) != 6 {
		t.Errorf("throttled: %q", got)
	}
}

func TestFields(t *testing.T) {
	s := yard(t)
	id, _ := s.Launch(ec2test.Instance{Platform: "windows", MAC: "02:00:00:00:00:99", Address: "10.1.2.3", Zone: where + "b",
		Tags: map[string]string{"Name": "SQL server 1", "Criticality": "critical", "Office": "Sydney", ec2.GroupTag: "sql"}}, ec2test.Volume{})
	_, hosts := names(t, open(t, s, func(c *ec2.Config) { c.Fields = map[string]string{"tier": "Criticality", "group": "Office"} }))
	h := hosts[id]
	if h.Region != where || h.Site != where+"b" || h.Tier != inventory.Critical || h.Group != "Sydney" || h.Address != "10.1.2.3" || fmt.Sprint(h.MAC) != "[02:00:00:00:00:99]" ||
		fmt.Sprint(h.Routes) != "[{ec2 "+where+"/"+id+"}]" || h.Labels["title"] != "SQL server 1" || h.Labels["autoscaling"] != "sql" || h.Labels["instance"] != id || h.Labels["state"] != "running" {
		t.Errorf("%+v", h)
	}
	if h := hosts["WS-0"]; h.Labels["autoscaling"] != "" || h.Tier != inventory.Normal {
		t.Errorf("%+v", h)
	}
}

// What is wrong is said in EC2's own words, with what to do.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *ec2test.Server, *ec2.Config)
		want   string
	}{
		"a right": {func(_ *testing.T, s *ec2test.Server, _ *ec2.Config) {
			s.Denied = map[string]bool{"DescribeInstances": true}
		}, "the right ec2:DescribeInstances is missing"},
		"another key": {func(_ *testing.T, s *ec2test.Server, _ *ec2.Config) { s.Key = "AKIDOTHER" }, "does not take these credentials (AuthFailure"},
		"a wrong key": {func(_ *testing.T, s *ec2test.Server, _ *ec2.Config) { s.Secret = "other" }, "SignatureDoesNotMatch"},
		"no key": {func(t *testing.T, _ *ec2test.Server, _ *ec2.Config) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		}, "aws sso login"},
		"no region":      {func(_ *testing.T, _ *ec2test.Server, c *ec2.Config) { c.Regions = nil }, "no AWS region is known"},
		"no profile":     {func(_ *testing.T, _ *ec2test.Server, c *ec2.Config) { c.Profile = "nobody" }, "nobody"},
		"a wrong region": {func(_ *testing.T, _ *ec2test.Server, c *ec2.Config) { c.Regions = []string{"eu-west-1"} }, "AuthFailure"},
		"a filter":       {func(_ *testing.T, _ *ec2test.Server, c *ec2.Config) { c.Filters = map[string]string{"colour": "red"} }, "The filter 'colour' is invalid (InvalidParameterValue)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := yard(t)
			src := open(t, s, func(cfg *ec2.Config) { c.change(t, s, cfg) })
			var last error
			for _, err := range src.Hosts(t.Context()) {
				last = err
			}
			if last == nil || !strings.Contains(last.Error(), c.want) || strings.Contains(last.Error(), "Encoded") {
				t.Errorf("hosts: %v, want %q", last, c.want)
			}
			if err := src.Check(t.Context()); name != "a filter" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("check: %v, want %q", err, c.want)
			}
		})
	}
	for _, cfg := range []ec2.Config{{IDs: []string{"WS-1"}}, {Page: 4}, {Page: 1001}, {Fields: map[string]string{"colour": "x"}}} {
		if _, err := ec2.New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	if err := open(t, yard(t), nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// A server that gives the same page again and again is not read for ever.
func TestCircle(t *testing.T) {
	yard(t)
	src := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet/><nextToken>again</nextToken></DescribeInstancesResponse>`)
	}), nil)
	for _, err := range src.Hosts(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "in a circle") {
			t.Errorf("%v", err)
		}
	}
}

// A profile that is not there is a user's mistake: the error says where profiles are looked for.
func TestNoProfile(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	s, err := ec2.New(ec2.Config{Profile: "nobody", Regions: []string{"us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no profile nobody\naws configure list-profiles") {
		t.Error(err)
	}
}
