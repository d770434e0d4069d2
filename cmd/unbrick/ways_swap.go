package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	machines "unbrick/inventory/source/azure"
	guests "unbrick/inventory/source/proxmox"
	center "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/gce"
	"unbrick/remediate/driver/hyperv"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/driver/openstack"
	"unbrick/remediate/driver/proxmox"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/swap"
	"unbrick/remediate/tlspin"
	client "unbrick/remediate/winrm"
)

// swapConfig is what unbrick.yaml says of volume swaps, and of single platforms. Credentials of
// clouds are found where their own tools look for them.
type swapConfig struct {
	Helpers   []string `yaml:"helpers"`    // names of the helpers; those beside a host serve it; unbrick-helper if empty
	PerHelper int      `yaml:"per_helper"` // volumes on one helper at once; 10 if 0
	Snapshot  bool     `yaml:"snapshot"`   // make one of each volume before it is moved; unbrick cleanup lists them
	Every     duration `yaml:"every"`      // how often to look what became of a change; each platform has its own, of 1 to 5 seconds, if 0

	// WasOff is start or leave: what becomes of instances that are off when they are found. If it
	// is empty, those that were off when the incident began are left, and all others started.
	WasOff swap.WasOff `yaml:"was_off"`

	EC2       ec2Config        `yaml:"ec2"`
	Azure     azureConfig      `yaml:"azure"`
	GCE       gceConfig        `yaml:"gce"`
	VSphere   []vsphereServer  `yaml:"vsphere"` // GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD if empty
	Proxmox   []proxmoxCluster `yaml:"proxmox"` // env:PROXMOX_VE_API_TOKEN where an entry has no token
	OpenStack openstackConfig  `yaml:"openstack"`
}

type (
	ec2Config struct {
		Profile  string `yaml:"profile"`      // of ~/.aws, where an address names none
		Region   string `yaml:"region"`       // where an address names none
		Endpoint string `yaml:"endpoint"`     // instead of Amazon's
		SSM      string `yaml:"ssm_endpoint"` // likewise, for Systems Manager; endpoint if empty
	}
	azureConfig struct {
		Cloud    string `yaml:"cloud"`    // public, government or china
		Endpoint string `yaml:"endpoint"` // of the Resource Manager, instead of the cloud's own
	}
	gceConfig struct {
		DiscardLocalSSD bool   `yaml:"discard_local_ssd"` // stop instances that have some: all on them is lost
		Endpoint        string `yaml:"endpoint"`          // instead of Google's
	}
	vsphereServer struct {
		URL      string     `yaml:"url"` // vc1.corp.example
		User     string     `yaml:"user"`
		Password secret.Ref `yaml:"password"`
	}
	proxmoxCluster struct {
		Name  string     `yaml:"name"` // in addresses; the host of url if empty
		URL   string     `yaml:"url"`  // of any node: https://pve1.corp.example:8006
		Token secret.Ref `yaml:"token"`
	}
	openstackConfig struct {
		Cloud string `yaml:"cloud"` // in clouds.yaml; what OS_CLOUD or OS_AUTH_URL say if empty
		Bus   string `yaml:"bus"`   // how the image is attached; as Nova chooses if empty
	}
)

// platforms are what virtual hosts run on, by way in.
type platforms struct {
	swaps     map[string]swap.Platform
	rollbacks map[string]rollback.Platform
	centers   []*center.Conn
}

// listPlatforms lists the platforms, and reaches none.
func (k *kit) listPlatforms(pins tlspin.Records) (p platforms, err error) {
	cfg, every := k.cfg.Swap, time.Duration(k.cfg.Swap.Every)
	trust, err := trusted(k.cfg, k.cfg.TLS, pins)
	if err != nil {
		return p, err
	}
	clouds, err := azure.New(azure.Options{Connection: machines.Connection{Cloud: cfg.Azure.Cloud, Endpoint: cfg.Azure.Endpoint}, Helpers: cfg.Helpers, Poll: pollAzure(every)})
	if err != nil {
		return p, hinted(err, "swap.azure in unbrick.yaml is described in the README")
	}
	if p.centers, err = k.vcenters(trust); err != nil {
		return p, err
	}
	hypervisors, err := k.hypervisors(pins)
	if err != nil {
		return p, err
	}
	clusters, err := proxmox.Connect(0, cfg.clusters(trust)...)
	if err != nil {
		return p, hinted(err, "swap: {proxmox: [{url: \"https://pve1.corp.example:8006\", token: file:…}]}")
	}
	p.swaps = map[string]swap.Platform{
		"libvirt": libvirt.New(libvirt.Options{Helpers: cfg.Helpers}),
		"ec2":     ec2.New(ec2.Options{Helpers: cfg.Helpers, Profile: cfg.EC2.Profile, Region: cfg.EC2.Region, Endpoint: cfg.EC2.Endpoint, Every: every}),
		"azure":   clouds,
		"gce":     gce.New(gce.Options{Helpers: cfg.Helpers, DiscardLocalSSD: cfg.GCE.DiscardLocalSSD, Endpoint: cfg.GCE.Endpoint}),
		"vsphere": vsphere.New(p.onCenters(cfg, every)),
		"hyperv":  hyperv.New(hyperv.Options{Runner: hypervisors, Helpers: cfg.Helpers}),
		"proxmox": proxmox.New(proxmox.Options{Clusters: clusters, Helpers: cfg.Helpers, Every: every}),
	}
	p.rollbacks = map[string]rollback.Platform{
		"libvirt-rollback": rollback.Libvirt(),
		"proxmox-rollback": rollback.Proxmox(rollback.ProxmoxOptions{Clusters: clusters}),
		"vsphere-rollback": rollback.VSphere(rollback.VSphereOptions{Conns: p.centers}),
	}
	return p, nil
}

func (p platforms) onCenters(cfg swapConfig, every time.Duration) vsphere.Options {
	return vsphere.Options{Conns: p.centers, Helpers: cfg.Helpers, Poll: every}
}

func (c swapConfig) check() error {
	switch c.WasOff {
	case "", swap.StartOff, swap.LeaveOff:
		return nil
	}
	return fmt.Errorf("swap.was_off is start or leave, and not %q", c.WasOff)
}

// listSwaps lists the ways in by what virtual hosts run on.
func (k *kit) listSwaps(pins tlspin.Records) (map[string]remediate.Driver, error) {
	cfg, every := k.cfg.Swap, time.Duration(k.cfg.Swap.Every)
	platforms, err := k.listPlatforms(pins)
	if err != nil {
		return nil, err
	}
	known := map[string]remediate.Driver{
		"vsphere-iso": vsphere.NewISO(platforms.onCenters(cfg, every), nil),
		"openstack":   openstack.New(openstack.Options{Cloud: cfg.OpenStack.Cloud, Bus: cfg.OpenStack.Bus, Every: every}),
	}
	var incident inventory.Incident
	if i := k.cfg.incident(); i != nil {
		incident = *i
	}
	for way, p := range platforms.swaps {
		known[way] = swap.New(swap.Options{
			Way: way, Platform: p, Desk: k.server, Records: k.store, Prober: k.prober,
			PerHelper: cfg.PerHelper, Snapshot: cfg.Snapshot, WasOff: cfg.WasOff, Incident: incident, Every: every,
		})
	}
	maps.Copy(known, k.listRollbacks(platforms.rollbacks))
	return known, nil
}

// rollbackWays are ways in that lose what was written since a snapshot: they are taken only
// where ladder: names them and allow: says so.
func rollbackWays() []string {
	return []string{"libvirt-rollback", "vsphere-rollback", "proxmox-rollback"}
}

func (k *kit) listRollbacks(platforms map[string]rollback.Platform) map[string]remediate.Driver {
	known := map[string]remediate.Driver{}
	for way, p := range platforms {
		o := rollback.Options{Way: way, Platform: p, Records: k.store, Prober: k.prober, Allowed: k.cfg.Allow.Rollback}
		if i := k.cfg.incident(); i != nil {
			o.Before = i.From
		}
		known[way] = rollback.New(o)
	}
	return known
}

// pollAzure is how often an operation of Azure is asked for: its SDK refuses less than a second.
func pollAzure(every time.Duration) time.Duration {
	if every == 0 {
		return 0
	}
	return max(every, time.Second)
}

// vcenters returns the servers of vSphere; none if nobody named one.
func (k *kit) vcenters(trust tlspin.Policy) (all []*center.Conn, err error) {
	servers := k.cfg.Swap.VSphere
	if len(servers) == 0 && os.Getenv("GOVC_URL") != "" {
		servers = []vsphereServer{{}}
	}
	for _, s := range servers {
		server, err := center.FromEnv(center.Server{URL: s.URL, User: s.User, Password: s.Password, TLS: trust.Config,
			Transport: func(next http.RoundTripper) http.RoundTripper { return &swap.Pace{Next: next} }}, os.Getenv)
		var conn *center.Conn
		if err == nil {
			conn, err = center.NewConn(server)
		}
		if err != nil {
			return nil, hinted(err, "swap: {vsphere: [{url: vc1.corp.example, user: unbrick@vsphere.local, password: file:…}]}")
		}
		k.closers = append(k.closers, conn)
		all = append(all, conn)
	}
	return all, nil
}

// clusters returns those of Proxmox. Their nodes sign their own certificates, as a rule.
func (c swapConfig) clusters(trust tlspin.Policy) (all []guests.Access) {
	for _, p := range c.Proxmox {
		all = append(all, guests.Access{Name: p.Name, URL: p.URL, Token: p.Token, Transport: pinned(trust)})
	}
	return all
}

// hypervisors returns what runs scripts on those of Hyper-V, as credentials of the driver
// hyperv say and in the way that winrm: says.
func (k *kit) hypervisors(pins tlspin.Records) (hyperv.Runner, error) {
	o, err := k.cfg.winrm(pins)
	return onHypervisors(o), err
}

// onHypervisors runs scripts on those of Hyper-V.
func onHypervisors(o winrm.Options) client.Runner {
	return client.Runner{Options: func(ctx context.Context, host string) (client.Options, error) {
		auth, err := o.Login(ctx, remediate.Target{Host: inventory.Host{Name: host}, Route: inventory.Route{Driver: "hyperv", Address: host}})
		return client.Options{Address: host, Auth: auth, TLS: o.TLS}, err
	}}
}

// pinned returns what carries HTTPS requests by a policy of certificates.
func pinned(trust tlspin.Policy) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		cfg, err := trust.Config(ctx, addr)
		if err != nil {
			return nil, err
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 15 * time.Second}, Config: cfg}
		return d.DialContext(ctx, network, addr)
	}
	return t
}

// removal is the command that removes a snapshot.
func removal(e swap.Entry) string {
	if slices.Contains(rollbackWays(), e.Way) {
		return rollback.Removal(e) + "; to have the machine go forward to it again: " + rollback.Forward(e)
	}
	for way, says := range map[string]func(swap.Entry) string{
		"libvirt": libvirt.Removal, "ec2": ec2.Removal, "azure": azure.Removal, "gce": gce.Removal,
		"vsphere": vsphere.Removal, "hyperv": hyperv.Removal, "proxmox": proxmox.Removal,
	} {
		if way == e.Way {
			return says(e)
		}
	}
	return fmt.Sprintf("delete the snapshot %s of %s", e.Mark, e.Slot.Volume)
}
