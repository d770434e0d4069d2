package vm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// fetchChunk is how much of an image is asked for at once. BMCs read images by ranges, and
// do not work with a server that has none.
const fetchChunk = 4 << 20

// fetch downloads the image at url into a new file in dir, as a BMC reads its media, and
// returns the file's name.
func fetch(ctx context.Context, url, dir string) (name string, err error) {
	f, err := os.CreateTemp(dir, "media-*.iso")
	if err != nil {
		return "", err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var at, size int64 = 0, 1
	for at < size {
		n, total, err := fetchRange(ctx, client, url, f, at)
		if err != nil {
			return "", err
		}
		at, size = at+n, total
	}
	return f.Name(), nil
}

// fetchRange appends one chunk from offset at, and returns its size and that of the whole.
func fetchRange(ctx context.Context, client *http.Client, url string, to io.Writer, at int64) (n, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, at+fetchChunk-1))
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return 0, 0, fmt.Errorf("the image server answers %s to a range, and not 206", resp.Status)
	}
	var first, last int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil || first != at {
		return 0, 0, fmt.Errorf("the image server answers with range %q", resp.Header.Get("Content-Range"))
	}
	n, err = io.Copy(to, resp.Body)
	if err == nil && (n != last-first+1 || n == 0) {
		err = io.ErrUnexpectedEOF
	}
	return n, size, err
}
