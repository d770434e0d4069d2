package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/engine"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// An enrolRig is EC2 with helpers, on which Systems Manager really runs what it is sent, as root,
// each with files of its own in place of this machine's.
type enrolRig struct {
	t    *testing.T
	fake *ec2test.Server
	dir  string // of unbrick.yaml
	env  []string

	listen string // where the rescue server does

	mu     sync.Mutex
	before map[string]func(script string) // by instance: called once, before a script runs
	groups map[string]int                 // by instance: the process group of what runs there
	work   sync.WaitGroup                 // scripts
}

func newEnrolRig(t *testing.T) *enrolRig {
	testenv.Need(t, "unshare", "curl", "flock", "setsid", "ntfs-3g", "go", "/etc/systemd/system", "/dev/fuse")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for a machine with files of its own")
	}
	r := &enrolRig{t: t, fake: ec2test.New("ap-southeast-2"), dir: t.TempDir(), before: map[string]func(string){}, groups: map[string]int{}}
	r.fake.Shell = r.run
	server := httptest.NewServer(r.fake)
	t.Cleanup(server.Close)
	r.env = []string{"AWS_ACCESS_KEY_ID=" + r.fake.Key, "AWS_SECRET_ACCESS_KEY=" + r.fake.Secret, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + r.dir + "/none", "AWS_SHARED_CREDENTIALS_FILE=" + r.dir + "/none"}
	r.writeImage()
	r.listen = ports.ForTest(t, ports.TCP).Address()
	config := fmt.Sprintf("state: unbrick.db\nimage: image\nrescue: {dir: rescue, listen: %q, image_listen: \"127.0.0.1:0\"}\n"+
		"swap: {helpers: [unbrick-helper], every: 10ms, ec2: {region: ap-southeast-2, endpoint: %q}}\n", r.listen, server.URL)
	r.write("unbrick.yaml", []byte(config))
	return r
}

func (r *enrolRig) write(name string, b []byte) {
	r.t.Helper()
	name = filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// writeImage writes an image that boots nothing, with the agent beside it as it is built for one.
func (r *enrolRig) writeImage() {
	stub := rescue.StubImage()
	iso, _ := io.ReadAll(io.NewSectionReader(stub, 0, stub.Size))
	sum := sha256.Sum256(iso)
	manifest, err := json.Marshal(image.Manifest{ConfigOffset: stub.ConfigOffset, ConfigSize: wire.ConfigSize,
		Files: []image.File{{Path: image.ISOName, Size: int64(len(iso)), SHA256: hex.EncodeToString(sum[:])}}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.write("image/"+image.ISOName, iso)
	r.write("image/"+image.ManifestName, manifest)
	cmd := exec.CommandContext(r.t.Context(), "go", "build", "-o", filepath.Join(r.dir, "image", image.AgentName), "unbrick/cmd/unbrick-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

// machine starts a helper and returns its id. Its files are in home(id).
func (r *enrolRig) machine() string {
	r.t.Helper()
	id, _ := r.fake.Launch(ec2test.Instance{Tags: map[string]string{"Name": "unbrick-helper"}}, ec2test.Volume{})
	r.fake.Manage(id, ec2test.Node{Platform: "Linux", Ping: "Online"})
	for _, dir := range []string{"bin", "lib", "units", "path", "dev", "sys/block/nvme9n1/device", "sys/class/block/nvme9n1"} {
		if err := os.MkdirAll(filepath.Join(r.home(id), dir), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	stand, err := filepath.Abs("testdata/systemctl")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.Symlink(stand, filepath.Join(r.home(id), "path/systemctl")); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		r.mu.Lock() // nothing begins any more
		r.mu.Unlock()
		r.work.Wait()
		if pid := r.service(id); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return id
}

func (r *enrolRig) home(id string) string { return filepath.Join(r.dir, "machines", id) }

// service is the process of the helper's service, or 0.
func (r *enrolRig) service(id string) int {
	b, _ := os.ReadFile(filepath.Join(r.home(id), "pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// inside makes this machine look like that one: to itself alone. A disk hangs there that is a file.
const inside = `
home=$UNBRICK_TEST_MACHINE
mount --bind "$home/bin" /usr/local/bin
mount --bind "$home/lib" /var/lib
mount --bind "$home/units" /etc/systemd/system
mount -t tmpfs none "$home/dev"
for node in null zero full random urandom fuse; do cp -a "/dev/$node" "$home/dev/"; done
[ ! -e "$home/disk" ] || ln -s "$home/disk" "$home/dev/nvme9n1"
mount --bind "$home/dev" /dev
mount --bind "$home/sys" /sys
exec sh "$home/script"
`

// run is the SSM agent of a helper.
func (r *enrolRig) run(id, script string) (string, string, int) {
	r.mu.Lock()
	r.work.Add(1)
	defer r.work.Done()
	before := r.before[id]
	delete(r.before, id)
	r.mu.Unlock()
	home := r.home(id)
	if before != nil {
		before(script)
	}
	dir := r.t.TempDir()
	name := filepath.Join(dir, "script")
	if err := os.WriteFile(name, []byte(script), 0o600); err != nil {
		return "", err.Error(), 1
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", strings.Replace(inside, `"$home/script"`, name, 1))
	cmd.Env = []string{"UNBRICK_TEST_MACHINE=" + home, "PATH=" + home + "/path:/usr/bin:/bin:/usr/sbin:/sbin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", err.Error(), 1
	}
	r.mu.Lock()
	r.groups[id] = cmd.Process.Pid
	r.mu.Unlock()
	_ = cmd.Wait()
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// kill ends what runs on a helper, as a power cut does.
func (r *enrolRig) kill(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = syscall.Kill(-r.groups[id], syscall.SIGKILL)
}

func (r *enrolRig) first(id string, do func(script string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before[id] = do
}

// command is unbrick image helper --ssm.
func (r *enrolRig) command(args ...string) *session {
	s := unbrick(r.t, append([]string{"image", "helper", "--ssm", "-c", filepath.Join(r.dir, "unbrick.yaml")}, args...)...)
	s.Env = append(s.Env, r.env...)
	return s
}

// must runs the command, and returns what it said.
func (r *enrolRig) must(code int, words []string, args ...string) string {
	r.t.Helper()
	s := r.command(args...)
	got := s.run(r.t)
	out := s.stdout.String() + s.stderr.String()
	for _, w := range words {
		if !strings.Contains(out, w) || got != code {
			r.t.Fatalf("exit code %d, want %d and %q:\n%s", got, code, w, out)
		}
	}
	return out
}

// config is the helper's, which nobody else may read.
func (r *enrolRig) config(id string) wire.Config {
	r.t.Helper()
	name := filepath.Join(r.home(id), "lib/unbrick-helper/helper.json")
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		r.t.Fatalf("%v, %v", info, err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg, err := wire.ParseConfig(b)
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *enrolRig) restarts(id string) int {
	b, _ := os.ReadFile(filepath.Join(r.home(id), "systemctl.log"))
	return strings.Count(string(b), "restart ")
}

// openHelpers opens the records that the commands use.
func (r *enrolRig) openHelpers() *rescue.Helpers {
	r.t.Helper()
	h, err := rescue.OpenHelpers(filepath.Join(r.dir, "rescue"), r.store())
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *enrolRig) store() *engine.Store {
	r.t.Helper()
	store, err := engine.Open(r.t.Context(), filepath.Join(r.dir, "unbrick.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { store.Close() })
	return store
}

// A holder stands between helpers and the rescue server. Of the second conversation, which is the
// agent's after curl's, the answer is held.
type holder struct {
	url  string
	rig  *enrolRig
	held chan struct{}
}

func newHolder(t *testing.T, r *enrolRig) *holder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := &holder{url: "https://" + l.Addr().String(), rig: r, held: make(chan struct{})}
	go func() {
		for n := 0; ; {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.listen)
			if err != nil {
				in.Close()
				continue
			}
			n++
			go h.carry(in, out, n == 2)
		}
	}()
	return h
}

func (h *holder) release() { close(h.held) }

// carry joins two connections. Where it holds, nothing comes back after what the client says in
// the light of the server's first words: that is the end of a handshake, and the request.
func (h *holder) carry(in, out net.Conn, hold bool) {
	defer in.Close()
	defer out.Close()
	asked := make(chan struct{})
	go func() {
		defer out.Close()
		buf := make([]byte, 64<<10)
		for times := 1; ; times++ {
			n, err := in.Read(buf)
			if times == 2 {
				close(asked)
			}
			if err != nil {
				return
			}
			_, _ = out.Write(buf[:n])
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-asked:
			if hold {
				<-h.held
			}
		default:
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// enrolled returns what a machine is on record for, once it is.
func (h *holder) enrolled(id string) (s rescue.Standing) {
	helpers := h.rig.openHelpers()
	for s.Helper == "" && h.rig.t.Context().Err() == nil {
		time.Sleep(5 * time.Millisecond)
		s, _ = helpers.Standing(h.rig.t.Context(), "ec2 ap-southeast-2/"+id)
	}
	return s
}
