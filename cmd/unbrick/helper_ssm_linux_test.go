package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

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
		if strings.Contains(c.Script, "{{") { // Systems Manager would put parameters there
			t.Error(c.Script)
		}
		if token, _ := invitation(c.Script); strings.Contains(all, token.Token) || strings.Contains(c.Comment, token.Token) {
			t.Error("the token is where it must not be")
		}
	}
	r.must(exitUsage, []string{"i-nobody: no such helper"}, "i-nobody")
	r.must(exitUsage, []string{"--config-out does not go with --ssm"}, "--config-out", "x")
}

// TestHelperRobbed: somebody is faster with the token. The helper's failure says so, and what the
// thief got is good for nothing. Done again, the helper works.
func TestHelperRobbed(t *testing.T) {
	t.Parallel()
	r := newEnrolRig(t)
	id := r.machine()
	stolen := make(chan wire.Config, 1)
	r.first(id, func(script string) {
		cfg, id := invitation(script)
		got, err := agent.Enrol(t.Context(), cfg, id, agent.Options{})
		if err != nil {
			t.Error(err)
		}
		stolen <- got
	})
	r.must(exitNotAll, []string{"does not work: ", "this enrolment was used before, at ", "from 127.0.0.1", "what they got is revoked", "SECURITY"})
	r.first(id, func(string) {
		if err := agent.Check(t.Context(), <-stolen, agent.Options{}); err == nil || !strings.Contains(err.Error(), "used twice") {
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
	other := httptest.NewTLSServer(nil)
	defer other.Close()
	r.must(exitNotAll, []string{"cannot get the agent from " + other.URL, "exit code 1"}, "--url", other.URL)
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
	s, sent, killed := r.command(), make(chan struct{}), make(chan struct{})
	r.first(id, func(string) { close(sent); <-killed })
	done := s.start(t)
	<-sent
	s.Process.Kill()
	<-done
	close(killed)
	r.must(exitDone, []string{"works: helper "}) // while the first script is still there
	if n := len(r.fake.Commands()); n != 2 || r.restarts(id) != 1 {
		t.Errorf("%d commands, %d restarts", n, r.restarts(id))
	}

	id = r.machine()
	h := newHolder(t, r)
	lost := make(chan rescue.Standing, 1)
	go func() {
		lost <- h.enrolled(id)
		r.kill(id)
		h.release()
	}()
	r.must(exitNotAll, []string{"does not work: Systems Manager says Failed"}, "--url", h.url, id)
	r.must(exitDone, []string{"works: helper "}, "--url", h.url, id)
	if was, cfg := <-lost, r.config(id); was.Helper == "" || cfg.Helper.ID == was.Helper {
		t.Errorf("%+v, then %+v", was, cfg.Helper)
	}
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
