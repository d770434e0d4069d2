package diskimage

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"unbrick/playbooks"
)

// Try says what pb would do to the raw disk image, or the directory, at path. It changes
// nothing. Of a directory it is taken that a volume is mounted there. Of an image every
// partition is in the Result: those that no Windows can be in are absent, and their name says
// what they are. An image without any volume to look at is an error.
func Try(pb *playbooks.Playbook, path string) (playbooks.Result, error) {
	info, err := os.Stat(path)
	if err != nil {
		return playbooks.Result{}, fmt.Errorf("cannot look at it: %w", err)
	}
	if info.IsDir() {
		return tryDir(pb, path)
	}
	img, err := Open(path)
	if err != nil {
		return playbooks.Result{}, err
	}
	r := playbooks.Result{Playbook: pb.Name, DryRun: true}
	looked := false
	for _, p := range img.Partitions {
		looked = looked || p.Err != nil || p.Kind == NTFS || p.Kind == BitLocker
		r.Volumes = append(r.Volumes, tryPartition(pb, img, p))
	}
	if !looked {
		err = fmt.Errorf("cannot find a Windows volume in %s: it holds %s", path, contents(img))
	}
	return r, errors.Join(err, img.Close())
}

func tryDir(pb *playbooks.Playbook, path string) (playbooks.Result, error) {
	v, err := playbooks.Dir(path)
	if err != nil {
		return playbooks.Result{}, err
	}
	findings, err := pb.Check(v)
	r := playbooks.Result{Playbook: pb.Name, DryRun: true,
		Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult(path, findings, err)}}
	return r, v.Close()
}

func tryPartition(pb *playbooks.Playbook, img *Image, p Partition) playbooks.VolumeResult {
	switch {
	case p.Err != nil:
		return playbooks.NewVolumeResult(p.String(), nil, p.Err)
	case p.Kind == BitLocker:
		return playbooks.VolumeResult{Volume: p.String(), Verdict: playbooks.Locked,
			Error: "it is encrypted by BitLocker, and nothing is unlocked here"}
	case isFAT(p.Kind) && pb.NeedsBoot():
		return tryBoot(pb, img, p)
	case p.Kind != NTFS:
		return playbooks.VolumeResult{Volume: p.String() + ", passed over: no Windows is in it", Verdict: playbooks.Absent}
	}
	v, err := img.Volume(p)
	if err != nil {
		return playbooks.NewVolumeResult(p.String(), nil, err)
	}
	findings, err := pb.Check(v)
	return playbooks.NewVolumeResult(p.String(), findings, err)
}

// tryBoot looks for boot stores on a FAT volume.
func tryBoot(pb *playbooks.Playbook, img *Image, p Partition) playbooks.VolumeResult {
	v, err := img.bootVolume(p)
	if err != nil {
		return playbooks.NewVolumeResult(p.String(), nil, err)
	}
	findings, err := pb.Check(v)
	if err == nil && len(findings) == 0 {
		return playbooks.VolumeResult{Volume: p.String() + ", passed over: Windows is not started from it", Verdict: playbooks.Absent}
	}
	return playbooks.NewVolumeResult(p.String(), findings, err)
}

func contents(img *Image) string {
	var names []string
	for _, p := range img.Partitions {
		names = append(names, p.String())
	}
	if len(names) == 0 {
		return "an empty partition table"
	}
	return strings.Join(names, ", ")
}
