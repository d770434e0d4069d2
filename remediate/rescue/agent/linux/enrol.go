//go:build linux

package linux

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A HelperFile is where a helper keeps its configuration, and the server that it is for.
type HelperFile struct {
	Name     string // the file; it has the credential, and is nobody's else to read
	URL, Pin string // of the rescue server
}

// Enrol exchanges a token, which is the first line of r, for the configuration of a helper, and
// puts it in place of what was there. What is there after an error is what was there before.
func (f HelperFile) Enrol(ctx context.Context, version, id string, r io.Reader, log *slog.Logger) error {
	token, err := bufio.NewReader(io.LimitReader(r, 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("cannot read the token: %w", err)
	}
	if token = strings.TrimSpace(token); token == "" {
		return errors.New("the token of the enrolment has to be on standard input")
	}
	cfg, err := agent.Enrol(ctx, wire.Config{URL: f.URL, Pin: f.Pin, Token: token}, id, agent.Options{Version: version, Log: log})
	if err != nil {
		return err
	}
	cfg.URL = f.URL
	b, err := cfg.Window()
	if err != nil {
		return err
	}
	return replaceFile(f.Name, b)
}

// Check says whether there is a configuration, for that server, whose credential is good.
func (f HelperFile) Check(ctx context.Context, version string, log *slog.Logger) error {
	b, err := os.ReadFile(f.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("this machine was not enrolled yet")
	}
	if err != nil {
		return err
	}
	cfg, err := wire.ParseConfig(b)
	if err != nil {
		return err
	}
	if cfg.URL != f.URL || cfg.Pin != f.Pin {
		return fmt.Errorf("this machine was enrolled with %s, which is another server or has another key now", cfg.URL)
	}
	return agent.Check(ctx, cfg, agent.Options{Version: version, Log: log})
}

// replaceFile puts a file that its owner alone can read in place of one that is there, whole and
// on stable storage.
func replaceFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
