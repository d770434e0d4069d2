package linux

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// googleModel is the model of persistent disks of Google Compute Engine on machine types where
// they are NVMe. What such a disk is called on its instance is in the vendor's part of what its
// namespace says of itself (google_nvme_id of GoogleCloudPlatform/guest-configs). No other
// disk is asked.
const googleModel = "nvme_card-pd"

// googleName returns what a disk of that model is called, or nothing. It was proved on no such
// disk: none was at hand.
func googleName(sysfs, dev string) string {
	model, err := os.ReadFile(filepath.Join(sysfs, "device/model"))
	if err != nil || strings.TrimSpace(string(model)) != googleModel {
		return ""
	}
	id, err := os.ReadFile(filepath.Join(sysfs, "nsid"))
	if err != nil {
		return ""
	}
	namespace, err := strconv.ParseUint(strings.TrimSpace(string(id)), 10, 32)
	if err != nil {
		return ""
	}
	said, err := identify(dev, uint32(namespace))
	if err != nil {
		return ""
	}
	return nameIn(said)
}

// nameIn reads the vendor's part of an identification: {"device_name":"…"}, padded with NUL.
func nameIn(said []byte) string {
	const vendor = 384
	if len(said) <= vendor {
		return ""
	}
	text, _, _ := bytes.Cut(said[vendor:], []byte{0})
	var named struct {
		Name string `json:"device_name"`
	}
	if json.Unmarshal(text, &named) != nil {
		return ""
	}
	return printable(named.Name)
}

// An adminCommand is struct nvme_admin_cmd of linux/nvme_ioctl.h.
type adminCommand struct {
	opcode, flags           uint8
	_                       uint16
	namespace               uint32
	_, _                    uint32
	metadata, addr          uint64
	metadataLen, dataLen    uint32
	cdw                     [6]uint32 // 10 to 15
	timeoutMilli, resultOut uint32
}

// identify asks an NVMe disk what one of its namespaces is (NVMe base specification, Identify
// with CNS 0). It reads.
func identify(dev string, namespace uint32) ([]byte, error) {
	f, err := os.Open(dev)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const command = 0xc0484e41 // _IOWR('N', 0x41, struct nvme_admin_cmd)
	data := make([]byte, 4096)
	var pin runtime.Pinner // the kernel sees a number, not a pointer
	pin.Pin(&data[0])
	defer pin.Unpin()
	c := adminCommand{opcode: 0x06, namespace: namespace, addr: uint64(uintptr(unsafe.Pointer(&data[0]))), dataLen: uint32(len(data)), timeoutMilli: 5000}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), command, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return nil, fmt.Errorf("cannot ask %s what it is: %w", dev, errno)
	}
	return data, nil
}
