package redfish_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
)

// BenchmarkBareCalls is the Redfish work of one host with nothing around it: log in, power
// off, insert, boot once, power on, power off, eject, power on, log out. What a whole run
// takes beyond it is the price of looking before acting, and of durability.
func BenchmarkBareCalls(b *testing.B) {
	bench(b, func(ctx context.Context, r *redfishtest.BMC) error {
		c := bare{&http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)},
		}}, r.URL(), ""}
		const system = "/redfish/v1/Systems/1"
		session, err := c.do(ctx, "POST", "/redfish/v1/SessionService/Sessions", map[string]any{"UserName": "root", "Password": password})
		if err != nil {
			return err
		}
		c.token = session.Get("X-Auth-Token")
		for _, step := range []struct {
			method, path string
			body         map[string]any
		}{
			{"POST", system + "/Actions/ComputerSystem.Reset", map[string]any{"ResetType": "ForceOff"}},
			{"POST", system + "/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia", map[string]any{"Image": image}},
			{"PATCH", system, map[string]any{"Boot": map[string]any{"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}}},
			{"POST", system + "/Actions/ComputerSystem.Reset", map[string]any{"ResetType": "On"}},
			{"POST", system + "/Actions/ComputerSystem.Reset", map[string]any{"ResetType": "ForceOff"}},
			{"POST", system + "/VirtualMedia/CD1/Actions/VirtualMedia.EjectMedia", map[string]any{}},
			{"POST", system + "/Actions/ComputerSystem.Reset", map[string]any{"ResetType": "On"}},
			{"DELETE", session.Get("Location"), nil},
		} {
			if _, err := c.do(ctx, step.method, step.path, step.body); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkDriver is the same by the driver: three calls, each of which logs in and looks.
func BenchmarkDriver(b *testing.B) {
	d := redfish.New(options())
	bench(b, func(ctx context.Context, r *redfishtest.BMC) error {
		target := at(r.URL())
		before, err := d.Observe(ctx, target)
		if err != nil {
			return err
		}
		if err := d.Enter(ctx, target, remediate.Image{URL: image}); err != nil {
			return err
		}
		return d.Leave(ctx, target, before)
	})
}

// bench rescues one host after the other, behind 8 BMCs for each processor at a time.
func bench(b *testing.B, host func(context.Context, *redfishtest.BMC) error) {
	cert, err := redfishtest.NewCertificate()
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	start := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		r, err := redfishtest.Start(redfishtest.Options{User: "root", Password: password, Serial: "SN1", Certificate: cert})
		if err != nil {
			b.Error(err)
			return
		}
		defer r.Close()
		for pb.Next() {
			if err := host(b.Context(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(start).Minutes(), "hosts/min")
	b.ReportMetric(0, "ns/op")
}

type bare struct {
	client *http.Client
	url    string
	token  string
}

func (c bare) do(ctx context.Context, method, path string, body map[string]any) (http.Header, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("X-Auth-Token", c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return resp.Header, nil
}
