package gce_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	api "unbrick/inventory/source/gce"
	"unbrick/remediate/driver/gce"
	"unbrick/remediate/driver/gce/gcetest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// A crowd is a project with a thousand instances and twelve helpers, which counts what it is asked.
type crowd struct {
	*gcetest.Server
	url   string
	asked atomic.Int64
}

const (
	thousand = 1000
	atOnce   = 100
	lenders  = 12
	latency  = 10 * time.Millisecond // of a request
)

func newCrowd(b *testing.B) *crowd {
	c := &crowd{Server: gcetest.New("corp-prod")}
	for n := range lenders {
		c.AddInstance(gcetest.Instance{Zone: zone, Name: fmt.Sprint("helper-", n), More: gcetest.Object{"labels": gcetest.Object{"unbrick": "helper"}}})
	}
	for n := range thousand {
		c.AddInstance(gcetest.Instance{Zone: zone, Name: fmt.Sprint("ws", n)})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		time.Sleep(latency)
		c.ServeHTTP(w, r)
	}))
	b.Cleanup(s.Close)
	c.url = s.URL
	return c
}

// all does a thousand hosts, a hundred at a time, and reports what it took.
func (c *crowd) all(b *testing.B, do func(n int) error) {
	b.StartTimer()
	swaptest.Each(b, thousand, atOnce, do)
	b.StopTimer()
	b.ReportMetric(float64(c.asked.Load())/thousand, "calls/host")
	b.ReportMetric(float64(c.Actions())/thousand, "changes/host")
}

// BenchmarkThousand takes the boot disks of 1,000 instances to helpers and back: by bare calls with
// no look before and no journal, and by the driver.
func BenchmarkThousand(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := newCrowd(b)
			client, err := api.Dial(api.Connection{Endpoint: c.url + "/compute/v1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t0"})})
			if err != nil {
				b.Fatal(err)
			}
			c.all(b, func(n int) error { return bare(b, client, fmt.Sprint("ws", n), fmt.Sprint("helper-", n%lenders)) })
			b.StartTimer()
		}
	})
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c := newCrowd(b)
			p := gce.New(gce.Options{Endpoint: c.url + "/compute/v1", Tokens: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "t0"}), PerSecond: 1e6, Helpers: []string{"label:unbrick=helper"}})
			d := swap.New(swap.Options{Way: "gce", Platform: p, Desk: &swaptest.Desk{}, Records: &rescue.MemRecords{}, PerHelper: 20, Every: latency})
			c.all(b, func(n int) error { return swaptest.Through(b.Context(), d, target(fmt.Sprint("ws", n)), latency) })
			b.StartTimer()
		}
	})
}

// bare is one host with nothing around it.
func bare(b *testing.B, c *api.Client, name, helper string) error {
	type operation struct {
		Link   string `json:"selfLink"`
		Status string `json:"status"`
	}
	const at = "projects/corp-prod/zones/" + zone
	do := func(path string, q url.Values, body any) error {
		var op operation
		var said *api.Error
		err := c.Post(b.Context(), at+"/instances/"+path, q, body, &op)
		for errors.As(err, &said) && said.Reason == "resourceNotReady" { // a helper does one thing at a time
			time.Sleep(latency)
			err = c.Post(b.Context(), at+"/instances/"+path, q, body, &op)
		}
		for err == nil && op.Status != "DONE" {
			err = c.Post(b.Context(), api.Partial(op.Link)+"/wait", nil, nil, &op)
		}
		return err
	}
	type object = map[string]any
	disk := at + "/disks/" + name
	for _, step := range []func() error{
		func() error { return do(name+"/stop", nil, nil) },
		func() error { return do(name+"/detachDisk", url.Values{"deviceName": {name}}, nil) },
		func() error {
			return do(helper+"/attachDisk", nil, object{"source": disk, "deviceName": "unbrick-" + name, "type": "PERSISTENT", "mode": "READ_WRITE"})
		},
		func() error { return do(helper+"/detachDisk", url.Values{"deviceName": {"unbrick-" + name}}, nil) },
		func() error {
			return do(name+"/attachDisk", nil, object{"source": disk, "deviceName": name, "type": "PERSISTENT", "mode": "READ_WRITE", "boot": true, "autoDelete": true, "interface": "SCSI"})
		},
		func() error { return do(name+"/start", nil, nil) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
