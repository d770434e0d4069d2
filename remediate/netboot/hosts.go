package netboot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A host is one MAC that is allowed. It is a file of its own.
type host struct {
	MAC   string     `json:"mac"`
	Image string     `json:"image"` // holds the host's token
	Since time.Time  `json:"since"`
	IP    netip.Addr `json:"ip,omitzero"` // that it asked its DHCP server for, last
	Lent  netip.Addr `json:"lent,omitzero"`
}

// hosts are those that are allowed: in memory, and in a directory.
type hosts struct {
	dir string
	ttl time.Duration
	now func() time.Time

	mu    sync.Mutex
	byMAC map[string]*host
	byIP  map[netip.Addr]string // MAC
}

// openHosts reads the directory. A file that cannot be read is no host: it is named in the
// log, and left there.
func openHosts(dir string, ttl time.Duration, now func() time.Time, log *slog.Logger) (*hosts, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep the hosts that are allowed to boot from the network: %w", err)
	}
	h := &hosts{dir: dir, ttl: ttl, now: now, byMAC: map[string]*host{}, byIP: map[netip.Addr]string{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var x host
		b, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(b, &x)
		}
		if err != nil || h.file(x.MAC) != name {
			log.Error("cannot read which host is allowed to boot from the network", "file", name)
			continue
		}
		h.byMAC[x.MAC] = &x
		if x.IP.IsValid() {
			h.byIP[x.IP] = x.MAC
		}
	}
	return h, nil
}

// file names the file of a MAC.
func (h *hosts) file(mac string) string {
	return filepath.Join(h.dir, strings.ReplaceAll(mac, ":", "-")+".json")
}

// normal returns MACs in one spelling.
func normal(macs []string) ([]string, error) {
	var out []string
	for _, m := range macs {
		hw, err := net.ParseMAC(m)
		if err != nil || len(hw) != 6 {
			return nil, fmt.Errorf("%q is not a MAC", m)
		}
		out = append(out, hw.String())
	}
	return out, nil
}

func (h *hosts) allow(macs []string, image string) error {
	macs, err := normal(macs)
	if err != nil {
		return err
	}
	if len(macs) == 0 {
		return errors.New("a host without a MAC cannot be told from others")
	}
	if u, err := url.Parse(image); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || !strings.Contains(strings.Trim(u.Path, "/"), "/") {
		return errors.New("the address of its image is not as in http://HOST/FOLDER/NAME.iso") // it may hold a token
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, mac := range macs {
		if err := h.save(host{MAC: mac, Image: image, Since: h.now().UTC()}); err != nil {
			return err
		}
	}
	return nil
}

func (h *hosts) forget(macs []string) error {
	macs, err := normal(macs)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, mac := range macs {
		if err := os.Remove(h.file(mac)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		h.untie(mac)
		delete(h.byMAC, mac)
	}
	return nil
}

func (h *hosts) image(macs []string) string {
	macs, err := normal(macs)
	if err != nil {
		return ""
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, mac := range macs {
		if x := h.byMAC[mac]; x != nil {
			return x.Image
		}
	}
	return ""
}

// find returns the host with a MAC, if it is answered.
func (h *hosts) find(mac net.HardwareAddr) (host, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.young(h.byMAC[mac.String()])
}

// at returns the host with an address, if it is answered.
func (h *hosts) at(ip netip.Addr) (host, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.young(h.byMAC[h.byIP[ip.Unmap()]])
}

func (h *hosts) young(x *host) (host, bool) {
	if x == nil || h.now().Sub(x.Since) > h.ttl {
		return host{}, false
	}
	return *x, true
}

// tie notes which address a host asked for. An address is of one host: the last that asked.
func (h *hosts) tie(mac net.HardwareAddr, ip net.IP) error {
	addr, ok := netip.AddrFromSlice(ip.To4())
	if !ok || addr.IsUnspecified() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.young(h.byMAC[mac.String()])
	if !ok || x.IP == addr && h.byIP[addr] == x.MAC {
		return nil
	}
	if before := h.byMAC[h.byIP[addr]]; before != nil && before.MAC != x.MAC {
		lost := *before
		lost.IP = netip.Addr{}
		if err := h.save(lost); err != nil {
			return err
		}
	}
	x.IP = addr
	return h.save(x)
}

func (h *hosts) untie(mac string) {
	if x := h.byMAC[mac]; x != nil && h.byIP[x.IP] == mac {
		delete(h.byIP, x.IP)
	}
}

// save writes a host down, then remembers it. The caller holds mu.
func (h *hosts) save(x host) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if err := write(h.file(x.MAC), b); err != nil {
		return err
	}
	h.untie(x.MAC)
	h.byMAC[x.MAC] = &x
	if x.IP.IsValid() {
		h.byIP[x.IP] = x.MAC
	}
	return nil
}

// write replaces a file as a whole; it is on stable storage on return.
func write(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // is gone if all went well
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	_ = dir.Sync() // Windows has no such thing
	return nil
}
