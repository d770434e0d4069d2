package windows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// mediaPatience is how long the medium may take to appear: a BMC's drive hangs on USB.
const mediaPatience = time.Minute

// Boot does the whole stay of a host in WinPE: configuration, network, the job, and the end,
// by power off or reboot, at the latest when its limit is reached. It returns an error if it
// was not begun because this is not WinPE, and otherwise when the end was asked for.
func Boot(version string, stay Stay) error {
	if !inWinPE() {
		return errors.New("this is not WinPE: the agent repairs a host from outside, and does nothing in its own Windows")
	}
	log := slog.New(newConsole(os.Stdout))
	log.Info("unbrick agent "+version, "phase", "start")
	ctx, cancel := context.WithTimeoutCause(context.Background(), stay.Limit, errors.New("the limit for a stay in WinPE is reached"))
	defer cancel()
	// The last resort, should the agent not come to its end even then.
	time.AfterFunc(stay.Limit+2*time.Minute, func() { leave("reboot") })
	if err := takePrivileges(); err != nil {
		log.Info(err.Error(), "phase", "start")
	}
	if err := guard(func() error { return work(ctx, version, stay, log) }); err != nil {
		log.Info(err.Error(), "phase", "failed")
	} else {
		log.Info("the server has the report", "phase", "done")
	}
	return finish(ctx, stay, log)
}

// inWinPE asks for the key that Windows Setup and others know WinPE by.
func inWinPE() bool {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Control\MiniNT`, registry.QUERY_VALUE)
	if err != nil {
		return false
	}
	k.Close()
	return true
}

// guard turns a panic into an error. The stack goes along without the panic's own words, which
// may quote what the program held.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the agent broke down (%T): %s", p, debug.Stack())
		}
	}()
	return f()
}

// work is all between the start and the end. The network is not waited for: wpeinit has begun
// to ask for an address, and the agent says hello until somebody answers.
func work(ctx context.Context, version string, stay Stay, log *slog.Logger) error {
	cfg, err := findConfig(ctx, log)
	if err != nil {
		return err
	}
	h := &Host{Patience: stay.Disks, Log: log}
	_, err = agent.Run(ctx, h, cfg, agent.Options{Version: version, Log: log})
	return err
}

// findConfig waits for a medium with the configuration of this host. CDs come before sticks:
// a BMC's medium is a CD, and a stick may have been left in the host. Fixed disks are not
// looked at: they belong to the host.
func findConfig(ctx context.Context, log *slog.Logger) (wire.Config, error) {
	for deadline := time.Now().Add(mediaPatience); ; {
		all, err := places()
		if err != nil {
			return wire.Config{}, err
		}
		var said error // what became of the last one that was there
		for _, drive := range []uint32{windows.DRIVE_CDROM, windows.DRIVE_REMOVABLE} {
			for _, p := range all {
				if p.drive != drive {
					continue
				}
				cfg, err := readConfig(filepath.Join(p.root(), ConfigName))
				if err == nil {
					log.Info("configuration from "+p.String(), "phase", "start")
					return cfg, nil
				}
				if !errors.Is(err, os.ErrNotExist) {
					said = fmt.Errorf("%s: %w", p, err)
				}
			}
		}
		if time.Now().After(deadline) {
			return wire.Config{}, errors.Join(errors.New("no CD or stick holds the configuration of this host ("+ConfigName+")"), said)
		}
		if err := pause(ctx, time.Second); err != nil {
			return wire.Config{}, err
		}
	}
}

func readConfig(name string) (wire.Config, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return wire.Config{}, err
	}
	return wire.ParseConfig(b)
}

// takePrivileges lets the agent read and remove what an access list keeps from it. Where it
// may not have them it goes on without.
func takePrivileges() error {
	var token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_ADJUST_PRIVILEGES|windows.TOKEN_QUERY, &token); err != nil {
		return fmt.Errorf("cannot take the privileges of a backup: %w", err)
	}
	defer token.Close()
	var errs []error
	for _, name := range []string{"SeBackupPrivilege", "SeRestorePrivilege"} {
		p := windows.Tokenprivileges{PrivilegeCount: 1}
		p.Privileges[0].Attributes = windows.SE_PRIVILEGE_ENABLED
		err := windows.LookupPrivilegeValue(nil, windows.StringToUTF16Ptr(name), &p.Privileges[0].Luid)
		if err == nil {
			err = windows.AdjustTokenPrivileges(token, false, &p, 0, nil, nil)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot take %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// finish ends the stay.
func finish(ctx context.Context, stay Stay, log *slog.Logger) error {
	switch stay.End {
	case "poweroff":
		log.Info("powering off", "phase", "end")
		return leave("shutdown")
	case "reboot":
		log.Info("rebooting", "phase", "end")
	default:
		log.Info(fmt.Sprintf("waiting to be powered off; rebooting in %s if nobody does", stay.Wait), "phase", "end")
		_ = pause(ctx, stay.Wait) // its end by the limit comes to the same
	}
	return leave("reboot")
}

// leave has WinPE end. Should that fail, startnet.cmd ends after the agent, and WinPE reboots
// by itself.
func leave(how string) error {
	program, err := systemProgram("wpeutil.exe")
	if err == nil {
		err = exec.Command(program, how).Run()
	}
	if err != nil {
		return fmt.Errorf("cannot end WinPE by wpeutil %s: %w", how, err)
	}
	return nil
}
