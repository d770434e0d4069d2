package linux

import (
	"testing"
	"unsafe"
)

func TestNameIn(t *testing.T) {
	said := func(text string) []byte { return append(append(make([]byte, 384), text...), make([]byte, 100)...) }
	for name, c := range map[string]struct {
		said []byte
		want string
	}{
		"a disk":     {said(`{"device_name":"unbrick-cafecafecafe","disk_type":"PERSISTENT"}`), "unbrick-cafecafecafe"},
		"nothing":    {said(""), ""},
		"another's":  {said("QEMU"), ""},
		"too short":  {make([]byte, 100), ""},
		"not a word": {said(`{"device_name":"a b"}`), ""},
		"no NUL":     {append(make([]byte, 384), `{"device_name":"x"}`...), "x"},
	} {
		if got := nameIn(c.said); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if size := unsafe.Sizeof(adminCommand{}); size != 72 { // as the number of the ioctl says: 0x48
		t.Errorf("a command has %d bytes", size)
	}
}

// Disks that are not Google's are not asked.
func TestGoogleName(t *testing.T) {
	dir := sysfs(t, map[string]string{"block/nvme0n1/device/model": "Samsung SSD", "block/nvme0n1/nsid": "1",
		"block/nvme1n1/device/model": "nvme_card-pd\n", "block/nvme1n1/nsid": "2\n"})
	for _, disk := range []string{"nvme0n1", "nvme1n1", "nvme2n1"} { // the second is no device
		if got := googleName(dir+"/block/"+disk, dir+"/dev/"+disk); got != "" {
			t.Errorf("%s: %q", disk, got)
		}
	}
}
