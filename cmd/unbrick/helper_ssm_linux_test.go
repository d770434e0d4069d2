package main

import (
	"bytes"
	"context"
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
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/engine"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
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
	r.listen = freeAddress(t)
	config := fmt.Sprintf("state: unbrick.db\nimage: image\nrescue: {dir: rescue, listen: %q, image_listen: \"127.0.0.1:0\"}\n"+
		"swap: {helpers: [unbrick-helper], every: 10ms, ec2: {region: ap-southeast-2, endpoint: %q}}\n", r.listen, server.URL)
	r.write("unbrick.yaml", []byte(config))
	return r
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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

var tokenIn = regexp.MustCompile(`(?m)^([0-9a-f]{40})$`)
var idIn = regexp.MustCompile(`--id "([0-9a-f]{8})"`)
var pinIn = regexp.MustCompile(`--pin "([0-9a-f]{64})"`)
var urlIn = regexp.MustCompile(`--url "([^"]+)"`)

// invitation is what a thief reads in the history of commands.
func invitation(script string) (wire.Config, string) {
	find := func(re *regexp.Regexp) string { return re.FindStringSubmatch(script)[1] }
	return wire.Config{URL: find(urlIn), Pin: find(pinIn), Token: find(tokenIn)}, find(idIn)
}

// TestHelperEnrols: a helper that has nothing but Systems Manager's agent works after one command;
// after the second too, which changes nothing. Its credential is nowhere but there.
func TestHelperEnrols(t *testing.T) {
	t.Parallel()
	r := newEnrolRig(t)
	id := r.machine()
	all := r.must(exitDone, []string{"unbrick-helper  " + id + " (ap-southeast-2a)  works: helper "})
	cfg := r.config(id)
	if !strings.Contains(all, "helper "+cfg.Helper.ID) || cfg.Helper.Name != "unbrick-helper" || r.restarts(id) != 1 {
		t.Errorf("%s, %+v, %d restarts", all, cfg.Helper, r.restarts(id))
	}
	all += r.must(exitDone, []string{`"id": "` + cfg.Helper.ID + `"`}, "--json", id)
	if r.restarts(id) != 1 || len(r.fake.Commands()) != 2 || r.config(id).Token != cfg.Token {
		t.Errorf("%d restarts, %d commands", r.restarts(id), len(r.fake.Commands()))
	}
	all += r.must(exitDone, []string{"works: helper "}, "--renew")
	renewed := r.config(id)
	if renewed.Token == cfg.Token || r.restarts(id) != 2 {
		t.Errorf("%d restarts", r.restarts(id))
	}
	for _, file := range []string{"unbrick.db", "unbrick.db-wal", "machines/" + id + "/agent.log", "machines/" + id + "/systemctl.log"} {
		b, err := os.ReadFile(filepath.Join(r.dir, file))
		if err != nil && file != "unbrick.db-wal" {
			t.Error(err)
		}
		all += string(b)
	}
	for _, secret := range []string{cfg.Token, renewed.Token} {
		if len(secret) < 30 || strings.Contains(all+r.fake.Heard(), secret) {
			t.Error("the credential is where it must not be")
		}
	}
	for _, c := range r.fake.Commands() {
		if token, _ := invitation(c.Script); strings.Contains(all, token.Token) || strings.Contains(c.Comment, token.Token) {
			t.Error("the token is where it must not be")
		}
	}
	r.must(exitUsage, []string{"i-nobody: no such helper"}, "i-nobody")
}

// TestHelperRobbed: somebody is faster with the token. The helper's failure says so, and what the
// thief got is good for nothing. Done again, the helper works.
func TestHelperRobbed(t *testing.T) {
	t.Parallel()
	r := newEnrolRig(t)
	id := r.machine()
	var stolen wire.Config
	r.first(id, func(script string) {
		cfg, id := invitation(script)
		var err error
		if stolen, err = agent.Enrol(t.Context(), cfg, id, agent.Options{}); err != nil {
			t.Error(err)
		}
	})
	r.must(exitNotAll, []string{"does not work: ", "this enrolment was used before, at ", "from 127.0.0.1", "what they got is revoked", "SECURITY"})
	r.first(id, func(string) {
		if err := agent.Check(t.Context(), stolen, agent.Options{}); err == nil || !strings.Contains(err.Error(), "used twice") {
			t.Error(err)
		}
	})
	r.must(exitDone, []string{"works: helper "})
}

// TestHelperOfAnotherServer: a server that has not the key of ours is told nothing.
func TestHelperOfAnotherServer(t *testing.T) {
	t.Parallel()
	r := newEnrolRig(t)
	id := r.machine()
	false := httptest.NewTLSServer(nil)
	defer false.Close()
	r.must(exitNotAll, []string{"cannot get the agent from " + false.URL, "exit code 1"}, "--url", false.URL)
	if _, err := os.Stat(filepath.Join(r.home(id), "bin/unbrick-agent")); err == nil {
		t.Error("an agent came")
	}
}

// TestHelperKilled: the command is killed after it was sent; the helper dies after it enrolled and
// before it knows with what. The same command makes it work each time.
func TestHelperKilled(t *testing.T) {
	t.Parallel()
	r := newEnrolRig(t)
	id := r.machine()
	s, sent := r.command(), make(chan struct{})
	r.first(id, func(string) { close(sent); s.Process.Kill() })
	done := s.start(t)
	<-sent
	<-done
	r.must(exitDone, []string{"works: helper "}) // while the first script is still there

	id = r.machine()
	h := newHolder(t, r)
	var lost rescue.Standing
	go func() {
		lost = h.enrolled(id)
		r.kill(id)
		h.release()
	}()
	r.must(exitNotAll, []string{"does not work: Systems Manager says Failed"}, "--url", h.url, id)
	r.must(exitDone, []string{"works: helper "}, "--url", h.url, id)
	if cfg := r.config(id); lost.Helper == "" || cfg.Helper.ID == lost.Helper {
		t.Errorf("%+v, then %+v", lost, cfg.Helper)
	}
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

// TestHelperWorks: while a run is on, a helper that enrolled repairs a volume that hangs on it.
func TestHelperWorks(t *testing.T) {
	t.Parallel()
	const folder, faulty = "Windows/System32/drivers/CrowdStrike/", "C-00000291-00000000-00000032.sys"
	r := newEnrolRig(t)
	id := r.machine()
	volume := ntfstest.Volume(t, ntfstest.File{Name: "Windows/System32/config/SYSTEM", Content: "regf"},
		ntfstest.File{Name: folder + faulty, Content: "\xaa\xaa\xaa\xaa\x01\x00\x23\x01bad", Modified: time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)})
	if err := os.Rename(volume, filepath.Join(r.home(id), "disk")); err != nil {
		t.Fatal(err)
	}
	r.write("machines/"+id+"/sys/block/nvme9n1/device/serial", []byte("vol0123456789abcdef0\n"))
	server, err := rescue.Start(t.Context(), rescue.Config{Dir: filepath.Join(r.dir, "rescue"), AgentListen: r.listen, ImageListen: "127.0.0.1:0",
		Base: rescue.StubImage(), Agent: filepath.Join(r.dir, "image", image.AgentName), Records: r.store()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r.must(exitDone, []string{"a run is on", "works: helper "})
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	target := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "vm1"}, Route: inventory.Route{Driver: "ec2"}}
	if err := server.Lend(t.Context(), target, "unbrick-helper", "vol0123456789abcdef0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rep, err := server.Repair(ctx, target, pb)
	if err != nil || len(rep.Result.Removed()) != 1 {
		log, _ := os.ReadFile(filepath.Join(r.home(id), "agent.log"))
		t.Fatalf("%+v, %v\n%s", rep, err, log)
	}
	if err := server.Withdraw(ctx, target); err != nil {
		t.Error(err)
	}
	if _, err := ntfstest.Cat(filepath.Join(r.home(id), "disk"), folder+faulty); err == nil {
		t.Error("the faulty file is still there")
	}
}
