package proxmox_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/driver/proxmox"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// fleet is a cluster of ten nodes with a helper each, and n guests.
func fleet(n int) (*proxmoxtest.Server, *atomic.Int64, http.Handler) {
	s, asked := proxmoxtest.New(token), new(atomic.Int64)
	var nodes []string
	for i := range 10 {
		nodes = append(nodes, fmt.Sprintf("pve%d", i))
		s.Add(helper(100000+i, fmt.Sprintf("helper-%d", i), nodes[i]))
		s.Change(100000+i, func(v *proxmoxtest.VM) { v.Tags = "unbrick-helper" })
	}
	s.AddStorage(proxmoxtest.Storage{ID: "local-lvm", Nodes: nodes})
	for i := range n {
		v := windows(1000 + i)
		v.Node = nodes[i%10]
		s.Add(v)
	}
	return s, asked, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); s.ServeHTTP(w, r) })
}

// BenchmarkSwap swaps the disks of 1,000 guests there and back, 40 at once. Of the requests, the
// six that change something are what it takes at least.
func BenchmarkSwap(b *testing.B) {
	const n = 1000
	b.Setenv("PROXMOX_VE_API_TOKEN", token)
	for b.Loop() {
		s, asked, h := fleet(n)
		server := httptest.NewServer(h)
		clusters, err := proxmox.Connect(1e6, api.Access{Name: "prod", URL: server.URL, Pause: time.Millisecond})
		if err != nil {
			b.Fatal(err)
		}
		p := proxmox.New(proxmox.Options{Clusters: clusters, Every: 5 * time.Millisecond})
		d := swap.New(swap.Options{Way: "proxmox", Platform: p, Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Every: 5 * time.Millisecond})
		var all sync.WaitGroup
		slots := make(chan struct{}, 40)
		for i := range n {
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				tg := target(fmt.Sprint("h", i), fmt.Sprint("prod/", 1000+i))
				until(b, func() error { return d.Enter(b.Context(), tg, remediate.Image{}) })
				until(b, func() error { return d.Leave(b.Context(), tg, remediate.Posture{}) })
			})
		}
		all.Wait()
		server.Close()
		if len(s.Wrong()) > 0 {
			b.Fatal(s.Wrong())
		}
		b.ReportMetric(float64(asked.Load())/n, "requests/host")
		b.ReportMetric(float64(s.Actions())/n, "changes/host")
	}
}

// until calls until it goes well, as the engine does while an error may pass.
func until(b *testing.B, call func() error) {
	var err error
	for range 200 {
		if err = call(); err == nil {
			return
		}
	}
	b.Error(err)
}
