package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// fetchConfig does what a host does that boots the image at url: it reads the image
// over HTTP until it has found the configuration of this host.
func fetchConfig(ctx context.Context, url string) (wire.Config, error) {
	var cfg wire.Config
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return cfg, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return cfg, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return cfg, fmt.Errorf("image server says %s", resp.Status)
	}
	if cfg, err = agent.ConfigFromImage(resp.Body); err == nil {
		// A lab with real hosts tells every host the address at which those find us.
		cfg.URL = strings.Replace(cfg.URL, "//"+vm.Gateway+":", "//127.0.0.1:", 1)
	}
	return cfg, err
}
