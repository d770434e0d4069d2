package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A front stands before the image server of the run for firmware that boots from https alone.
// Its certificate is what that firmware trusts.
type front struct {
	listener net.Listener
	server   *http.Server
	client   *http.Client // of hosts: firmware, and what it booted
}

// newFront listens, and passes on to images, host:port.
func newFront(certificate *tls.Certificate, images string) (*front, error) {
	root, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}})
	if err != nil {
		return nil, err
	}
	quiet := log.New(io.Discard, "", 0)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: images})
	proxy.ErrorLog, proxy.Transport = quiet, &http.Transport{DisableKeepAlives: true}
	f := &front{listener: l, server: &http.Server{Handler: proxy, ErrorLog: quiet, ReadHeaderTimeout: 30 * time.Second}}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	f.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true, // a host that is switched off keeps nothing
	}}
	go f.server.Serve(l)
	return f, nil
}

func (f *front) address() string { return "https://" + f.listener.Addr().String() }
func (f *front) close()          { f.server.Close() }

// fetchConfig does what a host does that boots the image at an address: it reads it until it
// has found the configuration of this host. Behind an EFI program comes what the program loads
// from the same folder, the configuration last.
func (f *front) fetchConfig(ctx context.Context, address string) (cfg wire.Config, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if program, ok := strings.CutSuffix(address, "shimx64.efi"); ok {
		if err := f.get(ctx, address, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }); err != nil {
			return cfg, err
		}
		address = program + "site.img"
	}
	err = f.get(ctx, address, func(r io.Reader) error { cfg, err = agent.ConfigFromImage(r); return err })
	// A lab with real hosts tells every host the address at which those find us.
	cfg.URL = strings.Replace(cfg.URL, "//"+vm.Gateway+":", "//127.0.0.1:", 1)
	return cfg, err
}

func (f *front) get(ctx context.Context, address string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("image server says %s", resp.Status)
	}
	return read(resp.Body)
}
