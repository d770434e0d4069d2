package rescue_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
)

func TestStartRefuses(t *testing.T) {
	l := newLab(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for _, tt := range []struct {
		name   string
		change func(c *rescue.Config)
		words  []string
	}{
		{"no directory", func(c *rescue.Config) { c.Dir = "" }, []string{"directory"}},
		{"a file", func(c *rescue.Config) { c.Dir = file }, []string{"cannot make", file}},
		{"agents' port taken", func(c *rescue.Config) { c.AgentListen = taken.Addr().String() }, []string{"agents", taken.Addr().String(), "in use"}},
		{"images' port taken", func(c *rescue.Config) { c.ImageListen = taken.Addr().String() }, []string{"images", "in use"}},
		{"no image", func(c *rescue.Config) { c.Base = rescue.Base{} }, []string{"image build"}},
		{"no placeholder", func(c *rescue.Config) { c.Base.ConfigOffset++ }, []string{"placeholder", "image build"}},
		{"no room", func(c *rescue.Config) { c.Base.ConfigOffset = c.Base.Size - 1 }, []string{"room"}},
		{"agents over http", func(c *rescue.Config) { c.AgentURL = "http://10.0.0.1" }, []string{"https://ADDRESS"}},
		{"images with a query", func(c *rescue.Config) { c.ImageURL = "http://10.0.0.1/?a=b" }, []string{"http://ADDRESS"}},
		{"damaged server key", func(c *rescue.Config) { write(t, c.Dir, "server.key", "nonsense", 0o600) }, []string{"server.key", "backup"}},
		{"damaged token key", func(c *rescue.Config) { write(t, c.Dir, "token.key", "nonsense", 0o600) }, []string{"token.key", "damaged"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := l.cfg
			c.Dir = t.TempDir()
			c.AgentListen, c.ImageListen = "127.0.0.1:0", "127.0.0.1:0"
			tt.change(&c)
			s, err := rescue.Start(t.Context(), c)
			if err == nil {
				s.Close()
			}
			wantErr(t, err, tt.words...)
		})
	}
}

func write(t *testing.T, dir, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, name), mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		testenv.Missing(t, "file modes")
	}
	l := newLab(t, nil)
	for _, name := range []string{"server.key", "token.key"} {
		file := filepath.Join(l.cfg.Dir, name)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		os.Chmod(file, 0o640)
		l.s.Close()
		_, err := rescue.Start(t.Context(), l.cfg)
		wantErr(t, err, "0640", "chmod 600 "+file)
		os.Chmod(file, 0o600)
	}
	os.Chmod(l.cfg.Dir, 0o777)
	_, err := rescue.Start(t.Context(), l.cfg)
	wantErr(t, err, "0777", "chmod go-w")
	os.Chmod(l.cfg.Dir, 0o700)
}

// Processes that start at the same moment in a new directory have the same keys.
func TestStartTogether(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.cfg
	cfg.Dir, cfg.AgentListen, cfg.ImageListen = filepath.Join(t.TempDir(), "new"), "127.0.0.1:0", "127.0.0.1:0"
	var wg sync.WaitGroup
	said := make([]string, 8)
	for i := range said {
		wg.Go(func() {
			s, err := rescue.Start(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			said[i] = s.Pin() + rescue.Token(s, l.target)
		})
	}
	wg.Wait()
	for _, pin := range said {
		if pin != said[0] {
			t.Errorf("keys differ: %v", said)
		}
	}
	left, err := os.ReadDir(cfg.Dir)
	if err != nil || len(left) != 3 {
		t.Errorf("in the directory: %v, %v", left, err)
	}
}
