package lab

import (
	"context"
	"sync"
	"time"

	"unbrick/remediate/winrm/winrmtest"
)

// windows is the Windows of one host: what answers on the WinRM port while it is up. While it
// is down the port is held, so that nobody else gets it, and every connection is dropped
// without a word.
type windows struct {
	*winrmtest.Server
	restart chan struct{} // has a value when somebody ordered one

	mu      sync.Mutex
	started time.Time
}

// newWindows returns a Windows that is down. Run does what it is told through WinRM.
func newWindows(run func(context.Context, *winrmtest.Command) int) (*windows, error) {
	w := &windows{restart: make(chan struct{}, 1)}
	var err error
	w.Server, err = winrmtest.Start(winrmtest.Options{User: windowsUser, Password: windowsPassword, Handler: run,
		WMI: func(string) map[string]any {
			w.mu.Lock()
			defer w.mu.Unlock()
			return map[string]any{"Caption": "Windows of the lab", "Version": "10.0", "LastBootUpTime": w.started}
		}})
	if err == nil {
		w.Die()
	}
	return w, err
}

// up has it answer until down.
func (w *windows) up() {
	w.mu.Lock()
	w.started = time.Now().UTC()
	w.mu.Unlock()
	select {
	case <-w.restart: // ordered of the one before
	default:
	}
	w.Revive()
}

func (w *windows) down() { w.Die() }

// order orders a restart.
func (w *windows) order() {
	select {
	case w.restart <- struct{}{}:
	default:
	}
}
