// Package netboot starts hosts from the network: a proxy DHCP server beside the site's own,
// and TFTP and HTTP for what the hosts then fetch.
//
// It answers the hosts that [Server.Allow] named and nobody else: to a stranger nothing is
// sent, not even a refusal. A host is known by its MAC, and, once it has an address, by the
// address that it was heard to ask for. Anyone in the same network can forge both; what a
// host fetches holds a one-time token, and what that is good for the image server decides.
//
// What a host gets depends on its firmware:
//
//	BIOS                 iPXE by TFTP
//	UEFI on x64          the signed shim by TFTP, then GRUB, with Secure Boot or without
//	UEFI HTTP boot       the ISO by HTTP
//	iPXE, of whichever   a script by HTTP
//
// Any other architecture gets no answer. The files are read from the server of the host's
// image, below the folder that the image is in: those that are the same for all hosts are
// kept in memory, the host's own is fetched each time.
//
// No address is handed out, with one exception that has to be asked for. GRUB looks for its
// files on the next server of the answer that the host got its address with. Where the site's
// own DHCP server names another machine there, as many name themselves, UEFI hosts load GRUB
// and get no further, unless Config.Lend has addresses that are lent to them while they boot.
//
// The TFTP server is of our own: the libraries at hand refuse strangers with an answer, and
// send blocks of 512 bytes on Windows. It reads nothing but the names in this package.
package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says where to listen. Dir must be there; Interface or Address should be where the
// machine has more than one network.
type Config struct {
	// Dir holds a small file for each host that is allowed. It is made if it is not there.
	Dir string

	Interface string // the network card to hear DHCP on; empty: all, as always on Windows
	Address   string // by which hosts reach this machine; empty: of Interface, or of the default route

	// Lend is a range of addresses that the site's own DHCP server does not give out, such as
	// 10.1.2.240-10.1.2.250, in the network of Interface or Address: as many UEFI hosts can boot
	// at the same time. Empty: none is lent.
	Lend string

	DHCP string // ":67" if empty
	PXE  string // ":4011" if empty
	TFTP string // ":69" if empty
	HTTP string // ":8069" if empty; its port is in what hosts are told

	TTL          time.Duration // for how long a host is answered; 3h if zero
	MaxTransfers int           // files sent at the same time; 256 if zero
	Retransmit   time.Duration // TFTP: for a host that names no timeout; 1s if zero

	Log *slog.Logger
	Now func() time.Time // time.Now if nil
}

// A Server answers the hosts that are allowed. Use Start.
type Server struct {
	cfg   Config
	log   *slog.Logger
	ip    net.IP // how hosts reach us
	pool  pool
	http  *http.Server
	web   string // URL of our HTTP, with the slash
	hosts *hosts
	files *files
	slots chan struct{} // of transfers under way
	conns []net.PacketConn

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Start listens and answers until Close. The context bounds starting alone. Hosts that an
// earlier process allowed in Dir are answered again.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.complete()
	if cfg.Dir == "" {
		return nil, errors.New("network boot needs a directory for the hosts that are allowed")
	}
	ip, err := cfg.address()
	if err != nil {
		return nil, err
	}
	lent, err := parsePool(cfg.Lend, ip, maskOf(ip))
	if err != nil {
		return nil, err
	}
	h, err := openHosts(cfg.Dir, cfg.TTL, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, ip: ip, pool: lent, hosts: h, files: newFiles(),
		slots: make(chan struct{}, cfg.MaxTransfers),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.listen(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (cfg Config) complete() Config {
	def(&cfg.DHCP, ":67")
	def(&cfg.PXE, ":4011")
	def(&cfg.TFTP, ":69")
	def(&cfg.HTTP, ":8069")
	def(&cfg.TTL, 3*time.Hour)
	def(&cfg.MaxTransfers, 256)
	def(&cfg.Retransmit, time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

// def sets *p to v if it is zero.
func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Close stops listening and ends every transfer. The hosts stay allowed for the next process.
func (s *Server) Close() error {
	s.stop()
	var errs []error
	if s.http != nil {
		errs = append(errs, s.http.Close())
	}
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	s.wg.Wait()
	s.files.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// Address is by which hosts reach this machine.
func (s *Server) Address() string { return s.ip.String() }

// Allow has the host with these MACs answered from now on: it boots the image at that URL.
// The folder of the image has another beside it, netboot, with the files in [Files]. It is on
// stable storage when Allow returns. A host that was allowed already is allowed anew.
func (s *Server) Allow(macs []string, image string) error {
	if err := s.hosts.allow(macs, image); err != nil {
		return fmt.Errorf("cannot allow network boot: %w", err)
	}
	return nil
}

// Forget ends that. Forgetting a host that is not allowed does nothing.
func (s *Server) Forget(macs []string) error {
	if err := s.hosts.forget(macs); err != nil {
		return fmt.Errorf("cannot end network boot: %w", err)
	}
	return nil
}

// Image returns the image that Allow named for a host with one of these MACs, also when that
// was so long ago that the host is not answered any more, or the empty string.
func (s *Server) Image(macs []string) string { return s.hosts.image(macs) }
