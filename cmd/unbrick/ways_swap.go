package main

import (
	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/swap"
)

// swapConfig is what unbrick.yaml says of volume swaps, on every platform.
type swapConfig struct {
	Helpers   []string `yaml:"helpers"`    // names of the helpers; those beside a host serve it; unbrick-helper if empty
	PerHelper int      `yaml:"per_helper"` // volumes on one helper at once; 10 if 0
	Snapshot  bool     `yaml:"snapshot"`   // make one of each volume before it is moved; unbrick cleanup lists them
}

// listSwaps lists the ways in by volume swap.
func (k *kit) listSwaps(cfg swapConfig) map[string]remediate.Driver {
	platforms := map[string]swap.Platform{
		"libvirt": libvirt.New(libvirt.Options{Helpers: cfg.Helpers}),
	}
	known := map[string]remediate.Driver{}
	for way, p := range platforms {
		known[way] = swap.New(swap.Options{
			Way: way, Platform: p, Desk: k.server, Records: k.store, Prober: k.prober,
			PerHelper: cfg.PerHelper, Snapshot: cfg.Snapshot,
		})
	}
	return known
}
