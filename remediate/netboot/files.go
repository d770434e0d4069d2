package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The names of what hosts load first.
const (
	Shim       = "shimx64.efi"   // UEFI, signed
	LoaderBIOS = "undionly.kpxe" // BIOS: iPXE
	Script     = "boot.ipxe"     // iPXE
	ISO        = "rescue.iso"    // UEFI HTTP boot: the image itself
)

// ownFile is the one file that is not the same for all hosts. It holds the host's token.
const ownFile = "site.img"

// Files are the names of all that is served but the ISO. They are in the folder netboot
// beside the image; nothing else there is read.
func Files() []string {
	return []string{Shim, LoaderBIOS, Script, "grubx64.efi", "mmx64.efi", "grub/grub.cfg", "vmlinuz", "initrd.img", ownFile}
}

// Limits of a file.
const (
	maxFile    = 1 << 30
	fetchTime  = 2 * time.Minute
	fetchTries = 10
)

// fileName returns which file a host means, as firmware and boot loaders write it: with
// leading slashes, one too many, or the wrong way round.
func fileName(asked string) (string, bool) {
	name := strings.ReplaceAll(asked, `\`, "/")
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", false
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	return name, slices.Contains(Files(), name)
}

// files read what hosts boot from the servers of their images.
type files struct {
	client *http.Client

	mu   sync.Mutex
	kept map[string]*kept
}

// A kept file is the same for all hosts, as its server says by giving it a tag.
type kept struct {
	turn chan struct{} // held by who reads or replaces it
	tag  string
	body []byte
}

func newFiles() *files {
	return &files{
		client: &http.Client{Transport: &http.Transport{
			Proxy:                 nil, // the server is ours, and near
			MaxIdleConnsPerHost:   4,
			ResponseHeaderTimeout: 30 * time.Second,
		}},
		kept: map[string]*kept{},
	}
}

// errGone means that the server of the images does not know this one any more.
var errGone = errors.New("the image server has no such file for this host any more")

// get returns a file as the host with this image gets it. The server of the image is asked
// each time, also for what is kept: it knows whether the host may still have it.
func (f *files) get(ctx context.Context, image, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	from := image[:strings.LastIndex(image, "/")+1] + "netboot/" + name
	if name == ownFile {
		body, _, err := f.fetch(ctx, from, "")
		return body, err
	}
	f.mu.Lock()
	k := f.kept[name]
	if k == nil {
		k = &kept{turn: make(chan struct{}, 1)}
		f.kept[name] = k
	}
	f.mu.Unlock()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	body, tag, err := f.fetch(ctx, from, k.tag)
	switch {
	case err != nil:
		return nil, err
	case body == nil:
		return k.body, nil
	case tag != "":
		k.tag, k.body = tag, body
	}
	return body, nil
}

// fetch asks for a file, and again while the server is busy. The body is nil if it still has
// the tag.
func (f *files) fetch(ctx context.Context, url, have string) (body []byte, tag string, err error) {
	for try := 1; ; try++ {
		body, tag, wait, err := f.fetchOnce(ctx, url, have)
		if wait == 0 || try == fetchTries {
			return body, tag, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
}

// fetchOnce asks once. Wait is how long to wait before it is asked again, if that may help.
func (f *files) fetchOnce(ctx context.Context, url, have string) (body []byte, tag string, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", 0, errors.New("the address of the image is none") // it holds a token
	}
	if have != "" {
		req.Header.Set("If-None-Match", have)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, "", time.Second, fmt.Errorf("cannot reach the image server: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && have != "":
		return nil, have, 0, nil
	case resp.StatusCode == http.StatusNotFound:
		return nil, "", 0, errGone
	case resp.StatusCode == http.StatusServiceUnavailable:
		return nil, "", retryAfter(resp), errors.New("the image server is busy")
	case resp.StatusCode != http.StatusOK:
		return nil, "", 0, fmt.Errorf("the image server answers %s", resp.Status)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	switch {
	case err != nil:
		return nil, "", time.Second, fmt.Errorf("cannot read from the image server: %w", err)
	case len(body) > maxFile:
		return nil, "", 0, errors.New("the file is too large to be sent to a host")
	}
	return body, resp.Header.Get("ETag"), 0, nil
}

func retryAfter(resp *http.Response) time.Duration {
	n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || n < 1 || n > 10 {
		n = 1
	}
	return time.Duration(n) * time.Second
}
