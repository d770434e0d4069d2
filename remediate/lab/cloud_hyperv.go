package lab

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"strings"

	"unbrick/remediate/driver/hyperv/hypervtest"
	client "unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

// newHyperV plays a hypervisor that is reached by WinRM over TLS. PowerShell is played too: see
// hypervtest.
func newHyperV(string, string) (*cloud, error) {
	const computer, roots = "HV1", "hypervisor.pem"
	hv := hypervtest.New(computer)
	hv.Add(virtualMachine(0, helperName, `D:\VMs\helper.vhdx`))
	certificate := winrmtest.Certificate("127.0.0.1")
	server, err := winrmtest.Start(winrmtest.Options{User: windowsUser, Password: windowsPassword, Handler: scripts(hv), TLS: certificate})
	if err != nil {
		return nil, err
	}
	signed := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificates[0].Certificate[0]})
	return &cloud{
		kind:      "hyperv",
		source:    fmt.Sprintf(`hypervisors: [%q], user: %s, password: "file:windows-password", except: [%s]`, server.Addr(), windowsUser, helperName),
		server:    closing(server.Close),
		helper:    computer + "/" + helperName,
		roots:     roots,
		mute:      true,
		files:     map[string]string{roots: string(signed)},
		snapshots: hv.Copies,
		launch: func(h spec, _ string, protected bool) (placed, error) {
			disk := `D:\VMs\` + h.Name + ".vhdx"
			vm := virtualMachine(h.number+1, h.Name, disk)
			vm.UUID, vm.Serial, vm.Clustered = h.UUID, h.Serial, protected
			vm.MACs = []string{strings.ReplaceAll(h.board.mac, ":", "")}
			hv.Add(vm)
			return placed{address: server.Addr() + "/" + vm.ID,
				look: func() sight { return lookHyperV(hv, h.Name, disk) }, shown: func() string { return hv.Shown(h.Name) }}, nil
		},
	}, nil
}

func virtualMachine(number int, name, disk string) hypervtest.VM {
	return hypervtest.VM{
		ID: fmt.Sprintf("11111111-0000-4000-8000-%012d", number), Name: name, State: "Running", Generation: 2, Replication: "Disabled", SCSI: 1, TPM: true,
		Drives: []hypervtest.Drive{{Type: "SCSI", Path: disk, Max: 500, Min: 10}}, DVDs: []int{2},
		Boot: []hypervtest.Entry{{Kind: "File", Key: `\EFI\Microsoft\Boot\bootmgfw.efi`}, {Kind: "Drive", Key: "SCSI:0:0"}, {Kind: "Network", Key: "Microsoft:1"}},
	}
}

// scripts has a hypervisor do the scripts that come through WinRM.
func scripts(hv *hypervtest.Server) winrmtest.Handler {
	return func(_ context.Context, c *winrmtest.Command) int {
		if c.Line != client.PowerShellLine() {
			fmt.Fprint(c.Stderr, "'", c.Line, "' is not recognized as an internal or external command\r\n")
			return 9009
		}
		input, _ := io.ReadAll(c.Stdin)
		script, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(input), "\r\n", ""))
		var out string
		if err == nil {
			out, err = hv.Run(string(script))
		}
		fmt.Fprint(c.Stdout, out)
		if err != nil {
			fmt.Fprint(c.Stderr, err, "\r\n")
			return 1
		}
		return 0
	}
}

func lookHyperV(hv *hypervtest.Server, name, disk string) (t sight) {
	hv.Change(name, func(v *hypervtest.VM) {
		t.runs = v.State == "Running" && len(v.Drives) > 0 && v.Drives[0].Path == disk
	})
	hv.Change(helperName, func(v *hypervtest.VM) {
		for _, d := range v.Drives {
			if d.Path == disk {
				t.mark = fmt.Sprintf("lun:%d", d.Location)
			}
		}
	})
	return t
}
