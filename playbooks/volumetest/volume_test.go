package volumetest_test

import (
	"testing"

	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
)

func TestVolume(t *testing.T) {
	volumetest.Run(t, func(_ *testing.T, files []volumetest.File) playbooks.Volume {
		v := volumetest.New()
		for _, f := range files {
			v.AddFile(f)
		}
		return v
	})
}

func TestReadOnlyVolume(t *testing.T) {
	volumetest.Run(t, func(_ *testing.T, files []volumetest.File) playbooks.Volume {
		v := volumetest.New()
		for _, f := range files {
			v.AddFile(f)
		}
		v.SetReadOnly(true)
		return v
	})
}
